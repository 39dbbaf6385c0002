/** Requests for transfers, and journals, that are almost right. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { MAX_UDP_OCTETS, UDP_ANSWER_ROOM_OCTETS } from '../../dnsbl/limits.ts';
import { TYPE } from '../../dnsbl/records.ts';
import { differenceSequence } from '../../dnsbl/transfer/difference-sequence.ts';
import { Journal } from '../../dnsbl/transfer/journal.ts';
import { readRequest } from '../../dnsbl/transfer/request.ts';
import { SignedAnswers } from '../../dnsbl/transfer/signed-answers.ts';
import { readQuery } from '../../dnsbl/wire.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { apex, emptyZone, startMs, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import {
  all,
  clientAt,
  key,
  keyring,
  oddlySigned,
  rcodeOf,
  recordsOf,
  requestOf,
  signedBy,
  transfersOf,
  tsigOf,
} from '../unit/dnsbl-transfer-fixtures.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-transfer');
const allow = new Map([[apex, [{ key: key.name }]]]);

test('a mutated signed request never throws, never takes long, and never gets the zone', async () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const { transfers, stop } = await transfersOf(zone, { allow });
  const seeds = [
    requestOf(),
    requestOf({ udpOctets: 4096 }),
    requestOf({ type: TYPE.IXFR, serial: zone.serial - 1 }),
    requestOf({ type: TYPE.IXFR, serial: zone.serial, udpOctets: 1232 }),
  ].map((message) => signedBy(key, message).message);
  let slowestMs = 0;
  for (let left = fuzz.rounds(2000); left > 0; left--) {
    const seed = fuzz.pick(seeds);
    const message = fuzz.mutate(seed);
    if (sameSigned(message, seed)) continue;
    const began = performance.now();
    const answers = await all(transfers.handle(message, clientAt()));
    slowestMs = Math.max(slowestMs, performance.now() - began);
    if (answers.length === 0) continue;
    assert.equal(answers.length, 1);
    assert.notEqual(rcodeOf(answers[0]!), 0, message.toString('hex'));
  }
  assert.ok(slowestMs < 2000, `${slowestMs} ms`);
  await stop();
});

test('a mutated signed question never counts as signed, and its answer stays in its room', () => {
  const signedAnswers = new SignedAnswers([key], () => startMs);
  const long = `${'a.'.repeat(100)}${apex}`;
  const seeds = [
    signedBy(key, requestOf({ type: TYPE.SOA })).message,
    signedBy(key, requestOf({ type: TYPE.IXFR, serial: 1, udpOctets: 1232 })).message,
    oddlySigned(requestOf({ type: TYPE.SOA, name: long }), 255),
    oddlySigned(requestOf({ type: TYPE.SOA, name: long, udpOctets: 700 }), 255),
    oddlySigned(requestOf({ type: TYPE.SOA }), 4000),
  ];
  const out = Buffer.alloc(UDP_ANSWER_ROOM_OCTETS);
  const answerOctets = 300;
  let right = 0;
  for (let left = fuzz.rounds(5000); left > 0; left--) {
    const seed = fuzz.pick(seeds);
    const message = fuzz.below(50) === 0 ? seed : fuzz.mutate(seed);
    const transport = fuzz.pick(['udp', 'tcp'] as const);
    const { isRight, octets } = signedAnswers.sign(
      message,
      0,
      message.length,
      transport,
      out,
      0,
      answerOctets,
    );
    if (isRight) assert.ok(sameSigned(message, seed), message.toString('hex'));
    if (message === seed) assert.equal(isRight, seeds.indexOf(seed) < 2);
    if (transport === 'udp')
      assert.ok(octets <= udpRoomOf(message), `${octets} for ${message.toString('hex')}`);
    assert.ok(octets <= out.length);
    right += Number(isRight);
  }
  assert.ok(right > 0);
});

/** RFC 6891 §6.2.3. */
function udpRoomOf(message: Buffer): number {
  const reading = readQuery(message);
  const asked = reading.kind === 'query' ? (reading.query.edns?.udpOctets ?? 0) : 0;
  return Math.max(512, Math.min(asked, MAX_UDP_OCTETS));
}

/**
 * Equal in all that a signature covers: the id may differ, and the letters of the name of the key.
 */
function sameSigned(message: Buffer, seed: Buffer): boolean {
  const { at } = tsigOf(seed);
  const nameEnd = at + key.name.length + 2;
  return (
    message.length === seed.length &&
    message.subarray(2, at).equals(seed.subarray(2, at)) &&
    message.toString('latin1', at, nameEnd).toLowerCase() ===
      seed.toString('latin1', at, nameEnd).toLowerCase() &&
    message.toString('latin1', nameEnd).toLowerCase() === seed.toString('latin1', nameEnd).toLowerCase()
  );
}

test('random octets are read without a fault', () => {
  for (let left = fuzz.rounds(5000); left > 0; left--) {
    const message = Buffer.from(Array.from({ length: fuzz.below(120) }, () => fuzz.below(256)));
    // The header says a query with a question and records, so that reading goes on behind it.
    if (message.length >= 12)
      Buffer.from([0, 0, 0, 1, 0, 0, 0, fuzz.below(2), 0, 1 + fuzz.below(2)]).copy(message, 2);
    readRequest(message, keyring, () => startMs);
  }
});

/** What a secondary does with an IXFR (RFC 1995 §4), in the plainest way; whatever does not fit throws. */
function applied(records: Set<string>, difference: readonly string[]): Set<string> {
  const now = new Set(records);
  const isSoa = (line: string) => line.includes(' SOA ');
  let mode: 'remove' | 'add' = 'add';
  for (const line of difference.slice(1, -1)) {
    if (isSoa(line)) mode = mode === 'add' ? 'remove' : 'add';
    else if (mode === 'remove') assert.ok(now.delete(line), `to be removed and not there: ${line}`);
    else {
      assert.ok(!now.has(line), `to be added and there: ${line}`);
      now.add(line);
    }
  }
  return now;
}

test('an IXFR from any serial makes of the zone of then the zone of now', async () => {
  const zone = emptyZone();
  const { ask, stop, counts } = await transfersOf(zone);
  const whole = async () =>
    new Set(recordsOf(await ask(requestOf())).filter((line) => !line.includes(' SOA ')));
  const pasts: { serial: number; records: Set<string> }[] = [];
  for (let left = fuzz.rounds(25, 100); left > 0; left--) {
    pasts.push({ serial: zone.serial, records: await whole() });
    for (let changes = 1 + fuzz.below(12); changes > 0; changes--) change(zone);
    const past = fuzz.pick(pasts.slice(-20));
    const difference = recordsOf(await ask(requestOf({ type: TYPE.IXFR, serial: past.serial })));
    if (past.serial !== zone.serial) assert.deepEqual(applied(past.records, difference), await whole());
  }
  assert.ok((counts.get('dns_transfer_answers ixfr') ?? 0) > 10);
  await stop();
});

function change(zone: Zone): void {
  const what =
    fuzz.below(3) > 0
      ? { name: `${fuzz.pick(['a.', 'b.', ''])}member-${fuzz.below(12)}.test` }
      : { address: fuzz.pick(['192.0.2.1', '192.0.2.2', '2001:db8::1', '2001:db8::2']) };
  zone.apply(
    vouched(what, {
      list: fuzz.pick(['vouched', 'vouched', 'blocked']),
      kind: fuzz.pick([3, 4]),
      trust: fuzz.pick([0, 1, 2, 3]),
      coverSubdomains: fuzz.below(2) === 0,
      removed: fuzz.below(4) === 0,
    }),
  );
}

test('a mutated journal never stops anything, and gives its own steps or none', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-journal-fuzz-'));
  const path = join(folder, 'journal');
  const options = {
    path,
    apex,
    maxOctets: 2 ** 20,
    writeMs: 1,
    log: pino({ enabled: false }),
    count: () => undefined,
  };
  const steps = new Map<number, string>();
  const first = await Journal.open(options);
  const zone = emptyZone();
  first.beginAnew({ serial: zone.serial, digest: Buffer.alloc(16) });
  zone.onChange = (what) => {
    assert.ok(what !== 'replaced');
    steps.set(what.from, JSON.stringify(what));
    first.append(what, Buffer.alloc(16));
  };
  const { serial } = zone;
  for (let index = 0; index < 30; index++) change(zone);
  await first.close();
  const whole = readFileSync(path);
  for (let left = fuzz.rounds(25, 100); left > 0; left--) {
    writeFileSync(path, fuzz.mutate(whole));
    const journal = await Journal.open(options);
    const since = await journal.since(serial);
    if (since) {
      for await (const step of since.read()) assert.equal(JSON.stringify(step), steps.get(step.from));
      await since.close();
    }
    await journal.close();
  }
  rmSync(folder, { recursive: true });
});

test('differences of many steps are cut into pieces, and none is lost', async () => {
  const zone = emptyZone();
  const steps: Parameters<NonNullable<Zone['onChange']>>[0][] = [];
  zone.onChange = (what) => steps.push(what);
  const { serial: from } = zone;
  for (let index = 0; index < 2500; index++) change(zone);
  async function* read() {
    for (const step of steps) if (step !== 'replaced') yield step;
  }
  const pieces: number[] = [];
  for await (const part of differenceSequence(zone.soa(), zone.serial, read()))
    pieces.push(part.filter(({ set }) => set.type === TYPE.SOA).length);
  assert.deepEqual(pieces, [1, ...Array(Math.ceil(steps.length / 1024)).fill(2), 1]);
  assert.ok(zone.serial - from === steps.length);
});
