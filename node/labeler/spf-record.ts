/**
 * The text of an SPF record, as RFC 7208 §12 writes it, and the names that its macros stand for.
 *
 * A record with one broken term is broken as a whole (§4.6), so nothing is skipped in silence.
 * What the terms mean together is spf.ts's business.
 */
import { isIPv4, isIPv6 } from 'node:net';

export type Qualifier = '+' | '-' | '~' | '?';

export type Mechanism = {
  kind: 'all' | 'include' | 'a' | 'mx' | 'ptr' | 'ip4' | 'ip6' | 'exists';
  qualifier: Qualifier;
  /** As it was written. */
  text: string;
  /** The domain it names, macros not yet expanded; undefined: the domain of the record. */
  target?: string;
  /** Of `ip4` and `ip6`. */
  address?: string;
  /** How many bits of an address count; of `ip4` and `ip6` one of them. */
  prefix: { 4: number; 6: number };
};

export type SpfRecord = { mechanisms: Mechanism[]; redirect?: string };

/** RFC 7208 §4.5: the version is a whole word; "v=spf10" is another thing. */
export function isSpf(text: string): boolean {
  return /^v=spf1(?: |$)/i.test(text);
}

/** @param text with isSpf() @returns the fault as a sentence when the record is no valid one */
export function parseSpf(text: string): SpfRecord | string {
  const record: SpfRecord = { mechanisms: [] };
  const once = new Set<string>();
  for (const term of text.slice('v=spf1'.length).split(' ')) {
    if (term === '') continue;
    const modifier = /^([a-z][a-z0-9_.-]*)=(.*)$/is.exec(term);
    if (!modifier) {
      const mechanism = parseMechanism(term);
      if (!mechanism) return `"${shown(term)}" is no mechanism of SPF`;
      record.mechanisms.push(mechanism);
      continue;
    }
    const name = modifier[1]!.toLowerCase();
    // RFC 7208 §6: what nobody knows is ignored, as long as it is written well.
    if (!isMacroString(modifier[2]!)) return `"${shown(term)}" is not written as SPF wants it`;
    if (name !== 'redirect' && name !== 'exp') continue;
    if (once.has(name)) return `"${name}=" stands twice`;
    once.add(name);
    if (!isDomainSpec(modifier[2]!)) return `"${shown(term)}" names no domain`;
    if (name === 'redirect') record.redirect = modifier[2]!;
  }
  return record;
}

function parseMechanism(text: string): Mechanism | undefined {
  const match = /^([+\-?~]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?=[:/]|$)(.*)$/is.exec(text);
  if (!match) return undefined;
  const [, sign, name, rest] = match as unknown as [string, Qualifier | '', string, string];
  const kind = name.toLowerCase() as Mechanism['kind'];
  // RFC 7208 §4.6.2: the qualifier is optional and defaults to "+".
  const mechanism: Mechanism = { kind, qualifier: sign || '+', text, prefix: { 4: 32, 6: 128 } };
  if (kind === 'all') return rest === '' ? mechanism : undefined;
  if (kind === 'ip4' || kind === 'ip6') return withNetwork(mechanism, rest);
  if (kind === 'a' || kind === 'mx') return withPrefixes(mechanism, rest);
  return withTarget(mechanism, rest);
}

function withTarget(mechanism: Mechanism, rest: string): Mechanism | undefined {
  if (rest === '' && mechanism.kind === 'ptr') return mechanism;
  const target = rest.slice(1);
  return rest.startsWith(':') && isDomainSpec(target) ? { ...mechanism, target } : undefined;
}

/** `a:domain/24//64`: each part may be left out. */
function withPrefixes(mechanism: Mechanism, rest: string): Mechanism | undefined {
  const match = /^(?::(.*?))?(?:\/(\d+))?(?:\/\/(\d+))?$/s.exec(rest);
  if (!match) return undefined;
  const [, target, v4, v6] = match;
  if (target !== undefined && !isDomainSpec(target)) return undefined;
  if (!isPrefix(v4, 32) || !isPrefix(v6, 128)) return undefined;
  const prefix = { 4: Number(v4 ?? 32), 6: Number(v6 ?? 128) };
  return { ...mechanism, prefix, ...(target !== undefined && { target }) };
}

function withNetwork(mechanism: Mechanism, rest: string): Mechanism | undefined {
  const [, address, bits] = /^:([^/]*)(?:\/(\d+))?$/.exec(rest) ?? [];
  if (address === undefined) return undefined;
  const isAddress = mechanism.kind === 'ip4' ? isIPv4(address) : isIPv6(address) && !address.includes('%');
  const max = mechanism.kind === 'ip4' ? 32 : 128;
  if (!isAddress || !isPrefix(bits, max)) return undefined;
  const prefix = Number(bits ?? max);
  return { ...mechanism, address, prefix: { 4: prefix, 6: prefix } };
}

function isPrefix(text: string | undefined, max: number): boolean {
  return text === undefined || (/^(0|[1-9]\d{0,2})$/.test(text) && Number(text) <= max);
}

const macro = /%\{([a-z])([0-9]*)(r?)([.\-+,/_=]*)\}|%[%_-]/gi;

/** RFC 7208 §7.1: visible characters, and "%" only as a macro or one of its escapes. */
function isMacroString(text: string): boolean {
  return /^[\x21-\x24\x26-\x7e]*$/.test(text.replace(macro, ''));
}

/** A macro string that ends in a top label or a macro; "c", "r" and "t" belong to explanations alone. */
function isDomainSpec(text: string): boolean {
  if (!isMacroString(text)) return false;
  for (const [whole, letter = '', digits] of text.matchAll(macro)) {
    if (whole.startsWith('%{') && (!/[slodiphv]/i.test(letter) || /^0+$/.test(digits!))) return false;
  }
  return /\}$/.test(text) || /\.(?!\d+\.?$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?$/i.test(text);
}

/** For whom the question is asked. */
export type Sender = { local: string; domain: string; ip4: string };

/** Macros whose value is another for each message. */
export function dependsOnMessage(spec: string): boolean {
  return /%\{[slihp]/i.test(spec);
}

/** RFC 7208 §7.3. @param domain the one whose record this is @returns lower case, without the final dot */
export function expand(spec: string, domain: string, { local, domain: senderDomain, ip4 }: Sender): string {
  const values: Record<string, string> = {
    ...{ s: `${local}@${senderDomain}`, l: local, o: senderDomain, h: senderDomain },
    // "p" asks who owns an address, and is "unknown" where nobody does.
    ...{ d: domain, i: ip4, p: 'unknown', v: 'in-addr' },
  };
  const name = spec.replace(macro, (whole, letter?: string, digits?: string, r?: string, cuts?: string) => {
    if (letter === undefined) return { '%%': '%', '%_': ' ', '%-': '%20' }[whole]!;
    const parts = values[letter.toLowerCase()]!.split(new RegExp(`[${escaped(cuts || '.')}]`));
    if (r) parts.reverse();
    return parts.slice(digits ? -Number(digits) : 0).join('.');
  });
  return shortened(name.toLowerCase().replace(/\.$/, ''));
}

/** Labels go from the left until DNS can carry the name. */
function shortened(name: string): string {
  if (name.length <= 253) return name;
  const tail = name.slice(-253);
  return tail.slice(tail.indexOf('.') + 1);
}

function escaped(characters: string): string {
  return characters.replace(/[\\\]^-]/g, '\\$&');
}

function shown(term: string): string {
  return term.length > 80 ? `${term.slice(0, 79)}…` : term;
}
