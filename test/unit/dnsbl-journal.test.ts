/** The journal: what it gives after changes, restarts, crashes and damage. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { pino } from 'pino';
import type { OwnedRecords, ZoneChange } from '../../dnsbl/difference.ts';
import { aRecord } from '../../dnsbl/records.ts';
import { ContentDigest } from '../../dnsbl/transfer/digest.ts';
import { History } from '../../dnsbl/transfer/history.ts';
import { Journal } from '../../dnsbl/transfer/journal.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { apex, emptyZone, startMs, vouched } from './dnsbl-fixtures.ts';

let folder = '';
let path = '';
let counts: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'atmos-journal-'));
  path = join(folder, 'zones', `${apex}.journal`);
  counts = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const log = pino({ enabled: false });
const count = (what: string, reason?: string) => void counts.push(`${what} ${reason}`);

function open(options: { maxOctets?: number; of?: string } = {}): Promise<Journal> {
  const { maxOctets = 2 ** 20, of = apex } = options;
  return Journal.open({ path, apex: of, maxOctets, writeMs: 1, log, count });
}

const digest = (serial: number) => {
  const octets = Buffer.alloc(16);
  octets.writeUInt32BE(serial);
  return octets;
};

function change(from: number, octets = 4): ZoneChange {
  const set = { ...aRecord('127.0.3.1', 300), rdatas: [Buffer.alloc(octets, from)] };
  return { from, to: from + 1, removed: [], added: [{ owner: '\x04reef\x04test\x03dom', set }] };
}

function fill(journal: Journal, from: number, to: number, octets?: number): void {
  for (let serial = from; serial < to; serial++) journal.append(change(serial, octets), digest(serial + 1));
}

/** Serials of the steps since one, or what stands in their place. */
async function since(journal: Journal, serial: number): Promise<number[] | undefined> {
  const steps = await journal.since(serial);
  if (!steps) return undefined;
  const serials: number[] = [];
  try {
    for await (const step of steps.read()) {
      assert.deepEqual(step.added, change(step.from, step.added[0]!.set.rdatas[0]!.length).added);
      serials.push(step.from);
    }
  } finally {
    await steps.close();
  }
  return serials;
}

async function filled(): Promise<void> {
  const journal = await open();
  journal.beginAnew({ serial: 100, digest: digest(100) });
  fill(journal, 100, 110);
  await journal.close();
}

test('steps are there at once, and after a restart', async () => {
  await filled();
  const journal = await open();
  assert.deepEqual(journal.last, { serial: 110, digest: digest(110) });
  assert.deepEqual(await since(journal, 107), [107, 108, 109]);
  fill(journal, 110, 112);
  assert.deepEqual(await since(journal, 109), [109, 110, 111]);
  assert.equal(await since(journal, 99), undefined);
  assert.equal(await since(journal, 112), undefined);
  assert.equal(journal.reaches(100), true);
  assert.equal(journal.reaches(112), true);
  assert.equal(journal.reaches(99), false);
  await journal.close();
});

test('a gap is refused', async () => {
  const journal = await open();
  journal.beginAnew({ serial: 100, digest: digest(100) });
  assert.throws(() => journal.append(change(101), digest(102)), /no gaps/);
  await journal.close();
});

test('who reads goes on reading while the journal begins anew', async () => {
  await filled();
  const journal = await open();
  const steps = (await journal.since(100))!;
  const reading = steps.read();
  assert.equal((await reading.next()).value?.from, 100);
  journal.beginAnew({ serial: 500, digest: digest(500) });
  fill(journal, 500, 502);
  assert.deepEqual(await since(journal, 500), [500, 501]);
  assert.equal(await since(journal, 105), undefined);
  let last = 0;
  for await (const { to } of reading) last = to;
  assert.equal(last, 110);
  await steps.close();
  await journal.close();
});

test('beyond its size the older half is dropped, and what is left is whole', async () => {
  const journal = await open({ maxOctets: 20_000 });
  journal.beginAnew({ serial: 0, digest: digest(0) });
  for (let serial = 0; serial < 1000; serial += 10) {
    fill(journal, serial, serial + 10, 200);
    const steps = await since(journal, serial + 5);
    assert.deepEqual(
      steps,
      [5, 6, 7, 8, 9].map((more) => serial + more),
    );
  }
  assert.ok(counts.filter((what) => what === 'dns_journal shortened').length > 10);
  assert.ok(readFileSync(path).length <= 23_000);
  await journal.close();
  const again = await open();
  assert.deepEqual(again.last, { serial: 1000, digest: digest(1000) });
  const oldest = [...Array(1000).keys()].find((serial) => again.reaches(serial))!;
  assert.equal((await since(again, oldest))?.length, 1000 - oldest);
  assert.deepEqual(readdirSync(join(folder, 'zones')), [`${apex}.journal`]);
  await again.close();
});

const endings: [what: string, damage: (file: Buffer) => Buffer][] = [
  ['half a step at its end', (file) => file.subarray(0, file.length - 20)],
  ['zeros at its end', (file) => Buffer.concat([file.subarray(0, file.length - 20), Buffer.alloc(4096)])],
  [
    'a changed octet',
    (file) => Buffer.from(file).fill(file[file.length - 90]! ^ 1, file.length - 90, file.length - 89),
  ],
];
for (const [what, damage] of endings) {
  test(`with ${what} it goes on before the damage, and says so`, async () => {
    await filled();
    writeFileSync(path, damage(readFileSync(path)));
    const journal = await open();
    assert.ok(journal.last!.serial < 110 && journal.last!.serial >= 107);
    assert.deepEqual(counts, ['dns_journal torn']);
    const { serial } = journal.last!;
    fill(journal, serial, 112);
    assert.deepEqual((await since(journal, 106))?.at(-1), 111);
    await journal.close();
  });
}

const strangers: [what: string, prepare: () => void | Promise<void>, of?: string][] = [
  ['another zone', filled, 'other.test'],
  ['no journal', () => writeFileSync(path, 'something else entirely, and longer than a head')],
  ['an empty file', () => writeFileSync(path, '')],
  ['half a base', () => truncateSync(path, 30)],
];
for (const [what, prepare, of] of strangers) {
  test(`${what} is set aside, loudly`, async () => {
    await filled();
    counts = [];
    await prepare();
    const journal = await open({ of });
    assert.equal(journal.last, undefined);
    assert.deepEqual(counts, ['dns_journal broken']);
    assert.ok(existsSync(`${path}.broken`));
    journal.beginAnew({ serial: 7, digest: digest(7) });
    fill(journal, 7, 9);
    assert.deepEqual(await since(journal, 7), [7, 8]);
    await journal.close();
  });
}

test('where it cannot be written there are no steps, and no fault', async () => {
  const journal = await open();
  rmSync(join(folder, 'zones'), { recursive: true });
  journal.beginAnew({ serial: 1, digest: digest(1) });
  fill(journal, 1, 50);
  assert.equal(await since(journal, 1), undefined);
  assert.ok(counts.includes('dns_journal write_failed'));
  fill(journal, 50, 60);
  assert.equal(await since(journal, 55), undefined);
  await journal.close();
});

test('damage that comes while it is in use ends the reading, and the journal begins anew', async () => {
  await filled();
  const journal = await open();
  const file = readFileSync(path);
  file[file.length - 90]! ^= 1;
  writeFileSync(path, file);
  await assert.rejects(since(journal, 100), /damaged/);
  assert.deepEqual(counts, ['dns_journal damaged']);
  assert.equal(journal.reaches(100), false);
  fill(journal, 110, 112);
  assert.deepEqual(await since(journal, 110), [110, 111]);
  await journal.close();
});

function recordsOf(zone: Zone): OwnedRecords[] {
  return [...zone.records()];
}

test('a digest is equal for equal content in any order, and only then', () => {
  const zone = emptyZone();
  for (let index = 0; index < 100; index++) zone.apply(vouched({ name: `member-${index}.test` }));
  const records = recordsOf(zone);
  const sum = (of: readonly OwnedRecords[]) => {
    const total = new ContentDigest();
    for (const record of of) total.add(record);
    return total.octets().toString('hex');
  };
  assert.equal(sum(records.toReversed()), sum(records));
  assert.notEqual(sum(records.slice(1)), sum(records));
  const total = new ContentDigest();
  for (const record of records) total.add(record);
  for (const record of records) total.remove(record);
  assert.equal(total.octets().toString('hex'), sum([]));
});

async function historyOf(zone: Zone): Promise<{ history: History; journal: Journal }> {
  const journal = await open();
  const history = new History({ zone, journal, onSettled: () => undefined, log, count });
  zone.onChange = (what) => history.changed(what);
  history.start();
  return { history, journal };
}

function rebuilt(zone: Zone): Zone {
  const listings = [...zone.listings()].reverse();
  const next = emptyZone({ serial: zone.serial + 256 });
  next.replace(listings);
  return next;
}

test('a zone that is built anew with the same content goes on where it was', async () => {
  let zone = emptyZone();
  for (let index = 0; index < 200; index++) zone.apply(vouched({ name: `member-${index}.test` }));
  const first = zone.serial;
  for (let restart = 0; restart < 3; restart++) {
    const { history } = await historyOf(zone);
    // Some changes come while the digest is still taken, some afterwards.
    zone.apply(vouched({ name: `member-${restart}.test` }, { removed: true }));
    await history.settled;
    zone.apply(vouched({ name: `new-${restart}.test` }));
    await history.stop();
    zone = rebuilt(zone);
  }
  assert.deepEqual(counts, ['dns_journal begun', 'dns_journal continued', 'dns_journal continued']);
  const { history } = await historyOf(zone);
  await history.settled;
  const steps = (await history.since(first))!;
  const changes: ZoneChange[] = [];
  for await (const step of steps.read()) changes.push(step);
  await steps.close();
  assert.equal(changes.length, 3 * 2 + 3);
  assert.equal(changes.at(-1)?.to, zone.serial);
  await history.stop();
});

const breaks: [what: string, between: (zone: Zone) => Zone][] = [
  [
    'another listing',
    (zone) => {
      const next = rebuilt(zone);
      next.apply(vouched({ name: 'missed.test' }));
      return next;
    },
  ],
  ['another name server', (zone) => sameWith(zone, { nameservers: ['ns9.harbor.test'] })],
  ['another TTL', (zone) => sameWith(zone, { ttlSeconds: 60 })],
  ['another hostmaster', (zone) => sameWith(zone, { hostmaster: 'other.harbor.test' })],
];
for (const [what, between] of breaks) {
  test(`with ${what} behind a restart the journal begins anew`, async () => {
    const zone = emptyZone();
    zone.apply(vouched({ name: 'reef.test' }));
    const { history } = await historyOf(zone);
    await history.settled;
    await history.stop();
    counts = [];
    const again = await historyOf(between(zone));
    await again.history.settled;
    assert.deepEqual(counts, ['dns_journal begun']);
    assert.equal(again.journal.reaches(zone.serial), false);
    await again.history.stop();
  });
}

function sameWith(zone: Zone, options: Parameters<typeof emptyZone>[0]): Zone {
  const next = emptyZone({ serial: zone.serial, ...options });
  next.replace([...zone.listings()]);
  return next;
}

test('a whole replacement with the same content goes on, with other content begins anew', async () => {
  const zone = emptyZone();
  zone.apply(vouched({ name: 'reef.test' }));
  const { history } = await historyOf(zone);
  await history.settled;
  const before = zone.serial;
  zone.replace([...zone.listings()]);
  assert.equal(history.isSettled, false);
  await history.settled;
  const steps = await history.since(before);
  assert.equal(steps?.to, zone.serial);
  await steps.close();
  zone.replace([vouched({ name: 'tide.test' })]);
  await history.settled;
  assert.equal(await history.since(before), undefined);
  assert.deepEqual(counts, ['dns_journal begun', 'dns_journal continued', 'dns_journal begun']);
  await history.stop();
});

test('a clock that was set back does not bring an old serial again', async () => {
  const zone = emptyZone();
  const { history } = await historyOf(zone);
  await history.settled;
  for (let index = 0; index < 10; index++) zone.apply(vouched({ name: `member-${index}.test` }));
  await history.stop();
  counts = [];
  const earlier = emptyZone({ now: () => startMs - 1000 });
  const again = await historyOf(earlier);
  await again.history.settled;
  assert.deepEqual(counts, ['dns_journal begun']);
  await again.history.stop();
});
