/** Notifications, to a secondary that is a socket of the test's own. */
import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, test } from 'node:test';
import { decode } from 'dns-packet';
import { pino } from 'pino';
import { defaultTransferLimits, type TransferLimits } from '../../dnsbl/transfer/limits.ts';
import { Notifier, type Secondary } from '../../dnsbl/transfer/notifier.ts';
import { Signer, verify } from '../../dnsbl/transfer/tsig.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { apex, emptyZone, startMs, vouched } from './dnsbl-fixtures.ts';
import { key, keyring, stranger, tsigOf } from './dnsbl-transfer-fixtures.ts';

let secondary: Socket;
let zone: Zone;
let notifier: Notifier;
let counts: string[];

beforeEach(async () => {
  secondary = createSocket('udp4');
  secondary.bind(0, '127.0.0.1');
  await once(secondary, 'listening');
  zone = emptyZone();
  counts = [];
});
afterEach(async () => {
  await notifier.stop();
  secondary.close();
});

function start(options: Partial<Secondary> = {}, limits: Partial<TransferLimits> = {}): void {
  notifier = new Notifier({
    zones: [zone],
    notify: new Map([[apex, [{ host: '127.0.0.1', port: secondary.address().port, ...options }]]]),
    keyring,
    now: () => startMs,
    log: pino({ enabled: false }),
    count: (what, reason) => void counts.push(`${what} ${reason}`),
    limits: { ...defaultTransferLimits, notifyIntervalMs: 20, notifyRetryMs: 10, ...limits },
  });
}

async function next(): Promise<{ message: Buffer; from: RemoteInfo; serial: number }> {
  const [message, from] = (await once(secondary, 'message')) as [Buffer, RemoteInfo];
  const { answers } = decode(message);
  assert.ok(answers?.[0]?.type === 'SOA');
  return { message, from, serial: answers[0].data.serial! };
}

function acknowledgement(message: Buffer, rcode = 0): Buffer {
  const answer = Buffer.from(message.subarray(0, 12 + apex.length + 2 + 4));
  answer.writeUInt16BE(0xa400 | rcode, 2);
  for (const at of [6, 8, 10]) answer.writeUInt16BE(0, at);
  return answer;
}

function acknowledge(
  { message, from }: { message: Buffer; from: RemoteInfo },
  answer = acknowledgement(message),
) {
  secondary.send(answer, from.port, from.address);
}

async function counted(what: string): Promise<void> {
  while (!counts.includes(`dns_notify ${what}`)) await new Promise((turn) => setImmediate(turn));
}

test('a notification names the zone, and has its SOA', async () => {
  start();
  notifier.changed(apex);
  const { message, serial } = await next();
  const {
    questions,
    opcode,
    type,
    flag_aa: authoritative,
  } = decode(message) as never as Record<string, never>;
  assert.deepEqual([opcode, type, authoritative], ['NOTIFY', 'query', true]);
  assert.deepEqual(questions, [{ name: apex, type: 'SOA', class: 'IN' }]);
  assert.equal(serial, zone.serial);
});

test('of many changes the secondary is told once, and of the last', async () => {
  start({}, { notifyRetryMs: 10_000 });
  notifier.changed(apex);
  const first = await next();
  for (let index = 0; index < 50; index++) {
    zone.apply(vouched({ name: `member-${index}.test` }));
    notifier.changed(apex);
  }
  acknowledge(first);
  const second = await next();
  assert.equal(second.serial, zone.serial);
  acknowledge(second);
  while (counts.length < 4) await new Promise((turn) => setImmediate(turn));
  assert.deepEqual(counts, [
    'dns_notify sent',
    'dns_notify acknowledged',
    'dns_notify sent',
    'dns_notify acknowledged',
  ]);
});

test('between two notifications lies the interval', async () => {
  start({}, { notifyIntervalMs: 200 });
  notifier.changed(apex);
  const first = await next();
  const at = performance.now();
  acknowledge(first);
  await counted('acknowledged');
  zone.apply(vouched({ name: 'reef.test' }));
  notifier.changed(apex);
  await next();
  assert.ok(performance.now() - at > 150);
});

test('without an answer it is told again, until the tries are used up', async () => {
  start({}, { notifyTries: 3, notifyRetryMs: 5 });
  const serials: number[] = [];
  secondary.on('message', (message) => serials.push(message.length));
  notifier.changed(apex);
  await counted('unanswered');
  assert.equal(counts.filter((what) => what === 'dns_notify sent').length, 3);
  // The next change begins again, and an answer ends it.
  zone.apply(vouched({ name: 'reef.test' }));
  notifier.changed(apex);
  const again = await next();
  assert.equal(again.serial, zone.serial);
  acknowledge(again);
  await counted('acknowledged');
});

test('a secondary that refuses is not asked again', async () => {
  start();
  notifier.changed(apex);
  const { message, from } = await next();
  acknowledge({ message, from }, acknowledgement(message, 5));
  await counted('rejected');
  assert.deepEqual(counts, ['dns_notify sent', 'dns_notify rejected']);
});

test('with a key it is signed, and only an answer signed with the key counts', async () => {
  start({ key: key.name }, { notifyRetryMs: 10_000 });
  notifier.changed(apex);
  const told = await next();
  const tsig = tsigOf(told.message);
  const { mac } = tsig;
  assert.equal(verify(told.message, tsig, keyring, startMs).kind, 'valid');
  const bare = acknowledgement(told.message);
  const signed = (by: typeof key, over = mac) =>
    new Signer(keyring.named(by.name), over, () => startMs).sign(bare);
  for (const forged of [bare, signed(stranger), signed(key, Buffer.alloc(32)), Buffer.alloc(5)]) {
    counts = [];
    acknowledge(told, forged);
    await counted('ignored');
    assert.deepEqual(counts, ['dns_notify ignored']);
  }
  acknowledge(told, signed(key));
  await counted('acknowledged');
});

test('an answer with another id, or from another port, counts for nothing', async () => {
  start({}, { notifyRetryMs: 10_000 });
  notifier.changed(apex);
  const told = await next();
  const wrongId = acknowledgement(told.message);
  wrongId[0]! ^= 1;
  acknowledge(told, wrongId);
  await counted('ignored');
  counts = [];
  const elsewhere = createSocket('udp4');
  elsewhere.send(acknowledgement(told.message), told.from.port, '127.0.0.1');
  await counted('ignored');
  elsewhere.close();
  acknowledge(told);
  await counted('acknowledged');
});
