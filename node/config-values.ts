/** Kinds of values that stand in configuration files, and the hints beside them. */
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { z } from 'zod';
import { durationMs } from './duration.ts';

export type HostPort = { host: string; port: number };

/** Says what would be right; shown beside what is wrong. */
export type Hint = {
  means: string;
  example: string;
  /** A message about it does not repeat what stands there: it may be a key, in the wrong place. */
  isSecret?: boolean;
};
export const hints = z.registry<Hint>();

export function hinted<T extends z.ZodType>(type: T, means: string, example: string): T {
  hints.add(type, { means, example });
  return type;
}

export function secret<T extends z.ZodType>(type: T, means: string, example: string): T {
  hints.add(type, { means, example, isSecret: true });
  return type;
}

export const domain = () =>
  z
    .string()
    .refine((name) => isDomain(name), 'is not a domain name')
    .transform((name) => domainToASCII(name).toLowerCase());

export const hostPort = () =>
  z
    .string()
    .refine((text) => parseHostPort(text) !== undefined, 'is not ADDRESS:PORT')
    .transform((text) => parseHostPort(text)!);

/** One, or a list of them; always a list afterwards. */
export const hostPorts = (most: number) =>
  z.unknown().transform((value, context): HostPort[] => {
    const isList = Array.isArray(value);
    const texts: unknown[] = isList ? value : [value];
    if (texts.length === 0 || texts.length > most)
      context.addIssue({ code: 'custom', message: `is not 1 to ${most} of ADDRESS:PORT` });
    return texts.flatMap((text, index) => {
      const parsed = typeof text === 'string' ? parseHostPort(text) : undefined;
      if (parsed) return [parsed];
      context.addIssue({ code: 'custom', message: 'is not ADDRESS:PORT', path: isList ? [index] : [] });
      return [];
    });
  });

export const duration = () =>
  z
    .string()
    .refine((text) => durationMs(text) !== undefined, 'is not a duration')
    .transform((text) => durationMs(text)!);

export const baseUrl = (protocols: string[]) =>
  z
    .string()
    .refine((text) => isBaseUrl(text, protocols), `is not a base URL (${protocols.join(' or ')}, no path)`);

export const did = () =>
  z.string().regex(/^did:(plc:[a-z2-7]{24}|web:[A-Za-z0-9.%-]{1,255})$/, 'is not a did:plc or did:web');

export const address = () => z.string().refine((text) => isIP(text) !== 0, 'is not an IP address');

function isDomain(name: string): boolean {
  const ascii = domainToASCII(name);
  return (
    ascii.includes('.') &&
    ascii.length <= 253 &&
    ascii.split('.').every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(label))
  );
}

function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text);
  if (!match) return undefined;
  const host = (match[1] ?? match[2])!;
  const number = Number(match[3]);
  if (number < 1 || number > 65535) return undefined;
  return isIP(host) !== 0 || host === 'localhost' ? { host, port: number } : undefined;
}

function isBaseUrl(text: string, protocols: string[]): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return (
    protocols.includes(url.protocol) && url.pathname === '/' && !url.search && !url.hash && !url.username
  );
}
