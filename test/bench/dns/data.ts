/**
 * What is listed and what is asked, the same for all servers.
 *
 * The zone files are rbldnsd's, which both read: 100,000 domains and 100,000 addresses, each with a DID and a
 * text of its own. Half of the questions are for what is listed, half for what is not; all ask for an A.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const apex = 'list.test';
export const zoneFiles = { dom: 'dom.dnset', ip: 'ip.ip4set' } as const;

export type Mix = 1 | 2;

const listed = { 1: '127.0.3.1', 2: '127.0.3.2', 3: '127.0.3.3' } as const;
const head = [
  '$TTL 2048',
  '$SOA 2048 ns.host.test hostmaster.host.test 1 900 300 604800 300',
  '$NS 2048 ns.host.test',
];

/** @param entries of each kind */
export function writeZoneFiles(dir: string, entries: number): void {
  const chance = newChance(20_26);
  const each = (subject: (index: number) => string) =>
    Array.from({ length: entries }, (_, index) => {
      const text = `did=${did(chance)} vouched-by=did:web:harbor.test url=https://harbor.test/listing/${subject(index)}`;
      return `${subject(index)} :${listed[trust(index)]}:${text}`;
    });
  const write = (file: string, lines: string[]) =>
    writeFileSync(join(dir, file), `${[...head, ...lines].join('\n')}\n`);
  write(zoneFiles.dom, each(domain));
  write(zoneFiles.ip, each(address));
}

/** In an order of chance, as load.c reads them. @param entries as there are in the zone files */
export function writeQueries(file: string, mix: Mix, entries: number, queries: number): void {
  const chance = newChance(mix);
  const lines = Array.from({ length: queries }, () => {
    const index = Math.floor(chance() * entries);
    const isListed = chance() < 0.5;
    const answer = isListed ? listed[trust(index)] : '-';
    const name = chance() < 0.5 ? domainName(index, isListed) : addressName(index, isListed);
    return `${name}.${apex} A ${answer} ${mix === 1 ? 'plain' : kind(chance)} ${source(chance)}`;
  });
  writeFileSync(file, `${lines.join('\n')}\n`);
}

function domain(index: number): string {
  return `d${index}.example${index % 97}.test`;
}

function address(index: number): string {
  return `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
}

function domainName(index: number, isListed: boolean): string {
  return isListed ? `${domain(index)}.dom` : `miss${domain(index)}.dom`;
}

function addressName(index: number, isListed: boolean): string {
  const name = address(index).split('.').reverse().join('.');
  return isListed ? `${name}.ip` : `${name.slice(0, -2)}11.ip`;
}

function trust(index: number): 1 | 2 | 3 {
  return ((index % 3) + 1) as 1 | 2 | 3;
}

/** Half with EDNS, half of those with a cookie. */
function kind(chance: () => number): 'plain' | 'edns' | 'cookie' {
  const point = chance();
  if (point < 0.5) return 'plain';
  return point < 0.75 ? 'edns' : 'cookie';
}

/** In 127.0.0.0/8, but in none of the few prefixes of which one is the server's own. */
function source(chance: () => number): string {
  const octet = (from: number, to: number) => from + Math.floor(chance() * (to - from));
  return `127.${octet(1, 255)}.${octet(0, 256)}.${octet(1, 255)}`;
}

function did(chance: () => number): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz234567';
  return `did:plc:${Array.from({ length: 24 }, () => letters[Math.floor(chance() * 32)]).join('')}`;
}

/** xorshift32: the same in every run. */
function newChance(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
