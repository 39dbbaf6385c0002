/**
 * Zone files as our export writes them: half names, half IPv4 addresses, each with a DID of its own, in no
 * order, as an export is. The same seed makes the same files, and tells any entry by its number.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export const apex = 'list.example.test';

export type DataFiles = { dom: string; ip: string };

const tlds = ['com', 'net', 'org', 'de', 'io', 'co.uk', 'fr', 'social', 'email', 'com.br', 'nl', 'info'];
const words = ['', 'mail-', 'news-', 'harbor', 'the-', 'shop-', 'studio-'];
const letters = 'abcdefghijklmnopqrstuvwxyz234567';
const url = 'vouched-by=did:web:harbor.test,did:web:meadow.test url=https://harbor.test/listing/';
const BLOCK_OCTETS = 1024 * 1024;

/** @param entries in all. @param epoch other text for the same entries: what a reload brings */
export function writeData(folder: string, entries: number, epoch = 0): DataFiles {
  const half = entries / 2;
  const files = { dom: join(folder, 'dom.dnset'), ip: join(folder, 'ip.ip4set') };
  writeLines(files.dom, half, 'test', (index) => lineOf(nameOf(index), index, epoch));
  writeLines(files.ip, half, '127.0.0.2', (index) => lineOf(addressOf(index), half + index, epoch));
  return files;
}

/** Distinct for each index below 2^31; 12 to 28 octets, most below 20. */
export function nameOf(index: number): string {
  const scattered = scatter(index);
  let label = '';
  for (let rest = scattered; rest > 0; rest = Math.floor(rest / 32)) label += letters[rest % 32];
  return `${words[scattered % words.length]}${label}.${tlds[scattered % tlds.length]}`;
}

/** Distinct for each index below 2^31, none of 127.0.0.0/8 or of multicast. */
export function addressOf(index: number): string {
  const bits = scatter(index);
  const first = 1 + (bits >>> 24);
  return `${first === 127 ? 200 : first}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`;
}

/** 24 digits; another for each entry and epoch. */
export function didOf(index: number, epoch: number): string {
  let did = '';
  let low = scatter(index);
  let high = Math.imul(index ^ 0x5bd1e995, 0x9e3779b1) >>> 0;
  for (let digit = 0; digit < 12; digit++) {
    did += letters[low & 31]! + letters[high & 31]!;
    low = Math.imul(low ^ (low >>> 15) ^ epoch, 0x2c1b3c6d) >>> 0;
    high = (Math.imul(high ^ (high >>> 13), 0x297a2d39) + digit) >>> 0;
  }
  return did;
}

/** A bijection of 31 bits: odd multiplications and shifts to the right can both be undone. */
function scatter(index: number): number {
  let bits = Math.imul(index + 1, 0x2545f491) & 0x7fffffff;
  bits ^= bits >>> 16;
  bits = Math.imul(bits, 0x45d9f3b) & 0x7fffffff;
  return bits ^ (bits >>> 15);
}

function lineOf(key: string, index: number, epoch: number): string {
  return `${key} :127.0.${2 + (index % 3)}.${1 + (index % 3)}:did=did:plc:${didOf(index, epoch)} $0$\n`;
}

function writeLines(file: string, count: number, testPoint: string, line: (index: number) => string): void {
  const fd = openSync(file, 'w');
  try {
    let text = `$TTL 300\n$SOA 300 ns1.test hostmaster.test 1 900 300 604800 60\n$NS 300 ns1.test ns2.test\n`;
    text += `${testPoint} :127.0.0.2:test entry of RFC 5782, always listed\n$0 ${url}\n`;
    for (let index = 0; index < count; index++) {
      text += line(index);
      if (text.length < BLOCK_OCTETS) continue;
      writeSync(fd, text);
      text = '';
    }
    writeSync(fd, text);
  } finally {
    closeSync(fd);
  }
}
