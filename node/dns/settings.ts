/** From the keys of a configuration to what the parts of dnsbl take; and what single keys cannot show. */
import type { z } from 'zod';
import { type AccessSettings, accessFaults } from '../../dnsbl/access/settings.ts';
import type { Secondary, TransferRule } from '../../dnsbl/transfer/transfers.ts';
import type { Contradiction, Path } from '../config-file.ts';
import type { aloneZoneSchema, serverShape } from './schema.ts';

type AloneZone = z.output<typeof aloneZoneSchema>;

/** What a server does, for all its zones; paths are absolute. */
export type ServerSettings = z.output<z.ZodObject<typeof serverShape>>;

/** What is said of one zone, besides what is in it. */
export type ZoneSettings = Pick<AloneZone, 'unkeyed' | 'unkeyedQuota' | 'keys' | 'transfer'> & {
  /** Lower case. */
  apex: string;
};

/** @param path makes a path absolute */
export function withPaths<T extends ServerSettings>(server: T, path: (name: string) => string): T {
  const { cookies, transfer, export: target } = server;
  return {
    ...server,
    ...(cookies.secrets !== undefined && { cookies: { ...cookies, secrets: path(cookies.secrets) } }),
    ...(transfer?.keys !== undefined && { transfer: { ...transfer, keys: path(transfer.keys) } }),
    ...(target && { export: { ...target, dir: path(target.dir) } }),
  };
}

export function accessSettings(server: ServerSettings, zones: readonly ZoneSettings[]): AccessSettings {
  const { limit, access, quota } = server;
  return {
    ...{ limit, rules: access, quota },
    zones: zones.map(({ apex, unkeyed, unkeyedQuota, keys }) => ({
      ...{ apex, unkeyed, subscribers: keys },
      ...(unkeyedQuota && { quota: unkeyedQuota }),
    })),
  };
}

/** @returns undefined where no zone has a secondary */
export function secondariesOf(server: ServerSettings, zones: readonly ZoneSettings[]) {
  const allow = new Map<string, TransferRule[]>();
  const notify = new Map<string, Secondary[]>();
  for (const { apex, transfer = server.transfer } of zones) {
    if (transfer && transfer.allow.length > 0) allow.set(apex, transfer.allow);
    if (transfer && transfer.notify.length > 0) notify.set(apex, transfer.notify);
  }
  return allow.size + notify.size === 0 ? undefined : { allow, notify };
}

/** @param base where the section `dns` stands */
export function dnsContradictions(
  base: Path,
  server: ServerSettings,
  zones: readonly (ZoneSettings & { nameservers?: readonly string[] | undefined })[],
  placeOf: (index: number) => Path,
): Contradiction[] {
  const found: Contradiction[] = [];
  if (server.workers === 0 && server.sockets === 'native') {
    const wrong = 'the native sockets need threads of their own';
    found.push([[...base, 'sockets'], wrong, 'Set "workers" to 1 or more, or "sockets" to "best".']);
  }
  for (const fault of accessFaults(accessSettings(server, zones))) {
    const [where = ''] = /^[\w.]+/.exec(fault) ?? [];
    const right = fault.includes('twice') ? 'Keep one of the two.' : 'Take some out.';
    found.push([[...base, ...where.split('.')], fault, right]);
  }
  for (const [index, { apex, nameservers = [], transfer }] of zones.entries()) {
    const place = placeOf(index);
    for (const [at, name] of nameservers.entries()) {
      if (!`.${name}`.endsWith(`.${apex}`)) continue;
      const wrong = `${name} is inside the zone, which holds no addresses of hosts`;
      const outside = apex.slice(apex.indexOf('.') + 1);
      found.push([[...place, 'nameservers', at], wrong, `Name it outside, for example ns1.${outside}.`]);
    }
    if (transfer) found.push(...keyless([...place, 'transfer'], transfer, server));
  }
  if (server.transfer) found.push(...keyless([...base, 'transfer'], server.transfer, server));
  return found;
}

function keyless(
  place: Path,
  { allow, notify }: { allow: readonly { key?: string | undefined }[]; notify: typeof allow },
  server: ServerSettings,
): Contradiction[] {
  if (server.transfer?.keys !== undefined) return [];
  const named = [...allow, ...notify].find(({ key }) => key !== undefined)?.key;
  if (named === undefined) return [];
  return [[place, `the TSIG key ${named} stands nowhere`, 'Name the file that has it: "dns.transfer.keys".']];
}
