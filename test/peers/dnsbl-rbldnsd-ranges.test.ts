/** The same ranges and exclusions, by chance, in rbldnsd and here. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readZone } from '../../dnsbl/files/read-zone.ts';
import type { FileForm } from '../../dnsbl/files/source.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { askDns } from '../ask-dns.ts';
import { freePort } from '../free-port.ts';
import { Fuzz } from '../fuzz/random.ts';
import { needs } from '../peers.ts';
import { apex, emptyZone, said } from '../unit/dnsbl-fixtures.ts';
import { until } from '../until.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-ranges-'));
after(() => rmSync(folder, { recursive: true }));

type Written = { file: string; form: FileForm; lines: string[]; asked: string[]; zone: Zone };

/** 10.0.0.0 to 10.0.7.255, and once in a while a whole /16. */
function ranges4(fuzz: Fuzz): { lines: string[]; asked: string[] } {
  const text = (low: number) => `10.${low >>> 16}.${(low >>> 8) & 255}.${low & 255}`;
  const edges = new Set<number>();
  const line = (index: number) => {
    const bits = fuzz.below(12);
    const from = fuzz.below(2048 >>> bits) << bits;
    const kinds = [
      () => [from, from + 2 ** bits - 1, `${text(from)}/${32 - bits}`] as const,
      () => {
        const start = fuzz.below(2048);
        const end = Math.min(2047, start + fuzz.below(fuzz.pick([4, 300, 1200])));
        return [start, end, `${text(start)}-${text(end)}`] as const;
      },
      () => [from & 0x700, from | 0xff, `10.0.${from >>> 8}`] as const,
      () => [from, from, text(from)] as const,
      () => [0, 65_535, '10.0'] as const,
    ];
    const [first, last, range] = fuzz.pick([0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 4].map((kind) => kinds[kind]!))();
    for (const edge of [first - 1, first, last, last + 1, (first + last) >>> 1]) edges.add(Math.max(0, edge));
    return `${fuzz.below(3) === 0 ? '!' : ''}${range} :${2 + index}:line ${index}`;
  };
  const lines = Array.from({ length: 1 + fuzz.below(14) }, (_, index) => line(index));
  return { lines, asked: [...edges].map((edge) => `${text(edge).split('.').reverse().join('.')}.ip`) };
}

/** Of 2001:db8::/112, each prefix once, for rbldnsd keeps the first of two. */
function ranges6(fuzz: Fuzz): { lines: string[]; asked: string[] } {
  const lines = new Map<string, string>();
  const edges = new Set<number>();
  for (let index = 0; index < 12; index++) {
    const bits = fuzz.below(8);
    const from = fuzz.below(256 >>> bits) << bits;
    const range = `2001:db8::${from.toString(16)}/${128 - bits}`;
    lines.set(range, `${fuzz.below(3) === 0 ? '!' : ''}${range} :${2 + index}:line ${index}`);
    for (const edge of [from, from + 2 ** bits - 1, from + 2 ** bits]) edges.add(edge);
  }
  const name = (low: number) =>
    `${[...`20010db8${low.toString(16).padStart(24, '0')}`].reverse().join('.')}.ip`;
  return { lines: [...lines.values()], asked: [...edges].map(name) };
}

function written(fuzz: Fuzz, round: number): Written {
  const form = round % 3 === 2 ? 'ip6trie' : 'ip4set';
  const { lines, asked } = form === 'ip6trie' ? ranges6(fuzz) : ranges4(fuzz);
  const file = join(folder, `${round}.${form}`);
  writeFileSync(file, `${lines.join('\n')}\n`);
  const zone = emptyZone();
  const read = readZone({ apex, sources: [{ subtree: 'ip', form, file }] });
  assert.deepEqual(read.notTaken, []);
  zone.adopt(read.table);
  return { file, form, lines, asked, zone };
}

test('what rbldnsd excludes or does not list, we do not; of what it answers, we answer one', {
  skip: needs('rbldnsd'),
}, async () => {
  const fuzz = new Fuzz('ranges in rbldnsd and here');
  const files = Array.from({ length: fuzz.rounds(24, 50) }, (_, round) => written(fuzz, round));
  chmodSync(folder, 0o755);
  const port = await freePort();
  const datasets = files.map(({ file, form }, round) => `ip.r${round}.test:${form}:${file}`);
  const rbldnsd = spawn('rbldnsd', ['-n', '-u', 'nobody', '-b', `127.0.0.1/${port}`, ...datasets], {
    stdio: 'ignore',
  });
  try {
    const theirs = { host: '127.0.0.1', port };
    await until('rbldnsd answers', () => askDns(theirs, 'ip.r0.test').catch(() => undefined));
    let listed = 0;
    for (const [round, { asked, zone, lines }] of files.entries()) {
      for (const name of asked) {
        const reply = await askDns(theirs, `${name}.r${round}.test`);
        const answers = reply.answers.flatMap((record) => (record.type === 'A' ? [record.data] : []));
        const ours = said(zone, name);
        const isSame =
          answers.length === 0 ? ours === 'NXDOMAIN' || ours === 'NODATA' : answers.includes(ours);
        assert.ok(isSame, `${name}: ${ours}, rbldnsd ${answers.join(' ') || 'nothing'}\n${lines.join('\n')}`);
        listed += Number(answers.length > 0);
      }
    }
    assert.ok(listed > 0);
  } finally {
    rbldnsd.kill();
  }
});
