/** The addon by itself: what it refuses, so that no octet outside the memory it was given is touched. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  ADDRESS_OCTETS,
  BATCH,
  type BatchAddon,
  loadAddon,
  PACKET_WORDS,
  SPAN_WORDS,
} from '../../dnsbl/native/addon.ts';
import { needsNativeDns } from '../native-dns.ts';

const skip = needsNativeDns();
const loaded = loadAddon();
const addon = ('addon' in loaded ? loaded.addon : undefined) as BatchAddon;

const input = () => new Uint8Array(BATCH * 128);
const packets = () => new Int32Array(BATCH * PACKET_WORDS);
const addresses = () => new Uint8Array(BATCH * ADDRESS_OCTETS);
const spans = () => new Int32Array(BATCH * SPAN_WORDS);

function opened(host = '127.0.0.1') {
  const batch = addon.open();
  return { batch, port: addon.bind(batch, host, 0, false, 65_536) };
}

test('arrays that are too small, or of another type, are refused', { skip }, () => {
  const { batch } = opened();
  const wrong: [Uint8Array, Int32Array, Uint8Array][] = [
    [new Uint8Array(BATCH - 1), packets(), addresses()],
    [input(), packets().subarray(1), addresses()],
    [input(), packets(), addresses().subarray(1)],
    [packets() as never, packets(), addresses()],
    [input(), input() as never, addresses()],
    [Buffer.from([]), packets(), addresses()],
    ['octets' as never, packets(), addresses()],
  ];
  for (const [octets, words, names] of wrong)
    assert.throws(() => addon.receive(batch, octets, words, names, 0), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => addon.receive(batch, input(), packets(), addresses(), -1));
  assert.throws(() => addon.send(batch, input(), spans().subarray(1)), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => addon.send({} as never, input(), spans()), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => (addon.receive as () => number)(), { code: 'ERR_INVALID_ARG_TYPE' });
  addon.close(batch);
});

test('an answer that stands outside the output is refused, and nothing is sent', { skip }, async (t) => {
  const { batch, port } = opened();
  const client = createSocket('udp4');
  t.after(() => client.close());
  const seen: Buffer[] = [];
  client.on('message', (message) => seen.push(message));
  client.send('?', port, '127.0.0.1');
  const output = new Uint8Array(100);
  while (addon.receive(batch, input(), packets(), addresses(), 10) === 0) await nextTurn();
  const outside: [number, number][] = [
    [0, 101],
    [100, 1],
    [-1, 5],
    [0, -1],
    [2 ** 31 - 1, 2],
    [2 ** 31 - 1, 65_507],
  ];
  for (const [at, octets] of outside) {
    const all = spans();
    all.set([at, octets]);
    assert.throws(() => addon.send(batch, output, all), { code: 'ERR_OUT_OF_RANGE' }, `${at} ${octets}`);
  }
  const all = spans();
  all.set([98, 2]);
  output.set([104, 105], 98);
  assert.equal(addon.send(batch, output, all), 0);
  await once(client, 'message');
  assert.deepEqual(seen.map(String), ['hi']);
  addon.close(batch);
});

test('a packet that is longer than its room says so', { skip }, async (t) => {
  const { batch, port } = opened();
  const client = createSocket('udp4');
  t.after(() => client.close());
  for (const octets of [128, 129]) {
    client.send(Buffer.alloc(octets, octets), port, '127.0.0.1');
    const [heads, names] = [packets(), addresses()];
    while (addon.receive(batch, input(), heads, names, 10) === 0) await nextTurn();
    assert.deepEqual([...heads.subarray(0, 3)], [octets === 128 ? 128 : -1, 4, client.address().port]);
    assert.deepEqual([...names.subarray(0, 4)], [127, 0, 0, 1]);
  }
  addon.close(batch);
});

test('a closed batch receives nothing and sends nothing, and an unused one can go', { skip }, () => {
  const { batch } = opened();
  addon.close(batch);
  addon.close(batch);
  assert.equal(addon.receive(batch, input(), packets(), addresses(), 1), 0);
  assert.equal(addon.send(batch, input(), spans()), 0);
  for (let index = 0; index < 100; index++) addon.open();
});

test('a host name, a port out of range and a seventeenth socket are refused', { skip }, () => {
  const batch = addon.open();
  assert.throws(() => addon.bind(batch, 'localhost', 0, false, 0), { code: 'EINVAL' });
  assert.throws(() => addon.bind(batch, '127.0.0.1', 65_536, false, 0), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.ok(addon.bind(batch, '192.0.2.1', 0, false, 0) < 0, 'EADDRNOTAVAIL');
  for (let index = 0; index < 16; index++) assert.ok(addon.bind(batch, '127.0.0.1', 0, false, 0) > 0);
  assert.throws(() => addon.bind(batch, '127.0.0.1', 0, false, 0), { code: 'ENOBUFS' });
  addon.close(batch);
});
