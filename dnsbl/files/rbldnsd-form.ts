/**
 * Listings as lines of rbldnsd's files, which dataset.ts and rbldnsd itself read again.
 *
 * A line is short because what many have in common, vouchers and URL, stands in a variable at its first
 * use; a dataset has ten. rbldnsd cuts a TXT at 254 octets; our own reader does not.
 */
import { codeOf, textOf } from '../entries.ts';
import { MAX_TEXT_OCTETS } from '../limits.ts';
import type { Listing } from '../listing.ts';
import { MAX_KEY_LENGTH } from '../name.ts';

/** One file of an export. */
export type RbldnsdFile = { ending: string; subtree: string; variables: Map<string, string> };

/** What stands at the head of each file. Names are without a final dot, times in seconds. */
export type FormHead = {
  apex: string;
  ttl: number;
  nameservers: readonly string[];
  hostmaster: string;
  serial: number;
  /** Refresh, retry, expire, minimum. */
  times: readonly [number, number, number, number];
};

const MAX_VARIABLES = 10;
const MIN_VARIABLE_OCTETS = 16;
const testText = 'test entry of RFC 5782, always listed';

const endings = [
  'dom.dnset',
  'ip.ip4set',
  'ip.ip6trie',
  'block.dnset',
  'block.ip4set',
  'block.ip6trie',
  '_vouch.dnset',
] as const;
type Ending = (typeof endings)[number];

export function rbldnsdFiles(): Map<Ending, RbldnsdFile> {
  return new Map(
    endings.map((ending) => [ending, { ending, subtree: ending.split('.')[0]!, variables: new Map() }]),
  );
}

export function headOf(file: RbldnsdFile, head: FormHead): string {
  const { apex, ttl, nameservers, hostmaster, serial, times } = head;
  const soa = `$SOA ${ttl} ${nameservers[0]} ${hostmaster} ${serial} ${times.join(' ')}`;
  const test = testPoint(file);
  return [
    `# ${file.subtree}.${apex}, serial ${serial}`,
    `$TTL ${ttl}`,
    soa,
    `$NS ${ttl} ${nameservers.join(' ')}`,
    ...(test === undefined ? [] : [`${test} :127.0.0.2:${testText}`]),
    '',
  ].join('\n');
}

function testPoint({ ending }: RbldnsdFile): string | undefined {
  if (ending === '_vouch.dnset') return undefined;
  if (ending.endsWith('.dnset')) return 'test';
  return ending.endsWith('.ip4set') ? '127.0.0.2' : '::ffff:7f00:2';
}

/** @returns the lines of one listing, by file; none when its text cannot stand in a line */
export function linesOf(listing: Listing, files: Map<Ending, RbldnsdFile>): [Ending, string][] {
  const key = listing.name ?? listing.address ?? '';
  const template = listing.foreign ? listing.foreign.text : ownTemplate(listing, key);
  if (template !== undefined && !fitsLine(template)) return [];
  const wild = listing.name !== undefined && listing.coverSubdomains ? '.' : '';
  const ending = endingOf(listing);
  const { variable, text } = shortened(template ?? '', listing, files.get(ending)!);
  const lines: [Ending, string][] = [[ending, `${variable}${wild}${key} :${codeOf(listing)}:${text}\n`]];
  const speaks = listing.foreign !== undefined || listing.trust >= 1;
  if (listing.name !== undefined && listing.list === 'vouched' && speaks && listing.mailTypes.length > 0) {
    lines.push(['_vouch.dnset', `${wild}${key} :127.0.0.2:${listing.mailTypes.join(' ')}\n`]);
  }
  return lines;
}

function endingOf({ name, address = '', list }: Listing): Ending {
  const subtree = list === 'blocked' ? 'block' : name === undefined ? 'ip' : 'dom';
  const form = name !== undefined ? 'dnset' : address.includes(':') ? 'ip6trie' : 'ip4set';
  return `${subtree}.${form}` as Ending;
}

function ownTemplate(listing: Listing, key: string): string {
  const text = textOf(listing);
  // A reader refuses a text that could be too long with another name in its place.
  if (Buffer.byteLength(text) + MAX_KEY_LENGTH > MAX_TEXT_OCTETS) return escaped(text);
  const urlAt = text.length - listing.url.length;
  return escaped(text.slice(0, urlAt)) + withPlace(listing.url, key);
}

/** The last place of the name as `$`, unless what follows would be read as part of it. */
function withPlace(url: string, key: string): string {
  const at = url.lastIndexOf(key);
  const rest = url.slice(at + key.length);
  if (at < 0 || /^[$0-9=]/.test(rest)) return escaped(url);
  return `${escaped(url.slice(0, at))}$${escaped(rest)}`;
}

function escaped(text: string): string {
  return text.replaceAll('$', '$$$$');
}

/** One line, without comment signs or blanks where they would be lost. */
function fitsLine(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a line cannot hold.
  return !/[\u0000-\u0008\u000a-\u001f\u007f]|^[#;\s]|\s$/.test(text);
}

/** The text behind the DID, in a variable if there is still one, up to the place of the name. */
function shortened(
  template: string,
  { did, foreign }: Listing,
  { variables }: RbldnsdFile,
): { variable: string; text: string } {
  const start = foreign ? 0 : template.indexOf(did) + did.length + 1;
  const dollar = template.indexOf('$', start);
  const end = dollar < 0 ? template.length : dollar;
  const common = template.slice(start, end);
  if (common.length < MIN_VARIABLE_OCTETS || common.startsWith(' ') || common.endsWith(' ')) {
    return { variable: '', text: template };
  }
  const known = variables.get(common);
  if (known === undefined && variables.size >= MAX_VARIABLES) return { variable: '', text: template };
  const number = known ?? String(variables.size);
  variables.set(common, number);
  const text = `${template.slice(0, start)}$${number}${template.slice(end)}`;
  return { variable: known === undefined ? `$${number} ${common}\n` : '', text };
}
