/** What becomes of a batch when an answer in it, or the batch itself, goes wrong. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { type TestContext, test } from 'node:test';
import { SOCKET } from '../../dnsbl/counters.ts';
import { MAX_UDP_OCTETS, UDP_ANSWER_ROOM_OCTETS } from '../../dnsbl/limits.ts';
import { type BatchAddon, loadAddon } from '../../dnsbl/native/addon.ts';
import type { Responder } from '../../dnsbl/responder.ts';
import { UdpBatch } from '../../dnsbl/udp-batch.ts';
import { needsNativeDns } from '../native-dns.ts';
import { until } from '../until.ts';
import { repeater } from './dnsbl-udp-fixtures.ts';

const skip = needsNativeDns();
const loaded = loadAddon();
const addon = 'addon' in loaded ? loaded.addon : (undefined as never);

/** Answers from this thread, and a client that is heard by the text. */
async function running(
  t: TestContext,
  parts: { responder?: Partial<Responder>; addon?: Partial<BatchAddon> },
) {
  const counts = new Map<number, number>();
  const faults: unknown[] = [];
  const responder = { ...repeater, fault: (error: unknown) => faults.push(error), ...parts.responder };
  let port = 0;
  const batch = new UdpBatch({
    addon: {
      ...addon,
      ...parts.addon,
      bind: (...words) => {
        port = addon.bind(...words);
        return port;
      },
    },
    responder: responder as unknown as Responder,
    counters: { add: (what, times = 1) => void counts.set(what, (counts.get(what) ?? 0) + times) },
    reusePort: false,
  });
  batch.listen([{ host: '127.0.0.1', port: 0 }]);
  batch.start();
  const client = createSocket('udp4');
  const heard: string[] = [];
  client.on('message', (packet) => heard.push(String(packet)));
  t.after(async () => {
    client.close();
    await batch.close();
  });
  const say = (text: string) => client.send(text, port, '127.0.0.1');
  return { say, heard, faults, count: (what: number) => counts.get(what) ?? 0 };
}

test('answers longer than any may be never leave the room, and cost no honest one', { skip }, async (t) => {
  let least = Infinity;
  const responder = {
    answer: (packet: Uint8Array, start: number, ...rest: unknown[]) => {
      const [length, , , out, outAt] = rest as [number, unknown, unknown, Uint8Array, number];
      least = Math.min(least, out.length - outAt);
      out.set(packet.subarray(start, start + length), outAt);
      return packet[start] === 'L'.charCodeAt(0) ? UDP_ANSWER_ROOM_OCTETS : length;
    },
  } as Partial<Responder>;
  const { say, heard, faults, count } = await running(t, { responder });
  for (let turn = 0; turn < 5; turn++) {
    for (let index = 0; index < 50; index++) say(`L ${turn} ${index}`);
    for (let index = 0; index < 10; index++) say(`honest ${turn} ${index}`);
  }
  await until('all came', () => count(SOCKET.udpQueries) === 300);
  await until('the honest are heard', () => heard.filter((text) => text.startsWith('honest')).length === 50);
  assert.ok(least >= UDP_ANSWER_ROOM_OCTETS, `${least} octets free`);
  assert.ok(heard.every((text) => text.length <= MAX_UDP_OCTETS));
  assert.equal(count(SOCKET.fault), 250);
  assert.deepEqual(faults, []);
});

test('a batch that cannot be sent costs its own answers, not the thread', { skip }, async (t) => {
  let fails = true;
  const send: BatchAddon['send'] = (...words) => {
    if (fails) throw new RangeError('an answer outside the output');
    return addon.send(...words);
  };
  const { say, heard, faults } = await running(t, { addon: { send } });
  say('lost');
  await until('it failed', () => faults.length > 0);
  assert.match(String(faults[0]), /outside the output/);
  fails = false;
  say('next');
  await until('the next is answered', () => heard.includes('next'));
  assert.deepEqual(heard, ['next']);
});
