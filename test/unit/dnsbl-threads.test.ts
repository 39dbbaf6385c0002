import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import type { Zone } from '../../dnsbl/zone.ts';
import { apex, decoded, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';

/** Some tenths of a second on a free machine; on a busy one both go on until they met often enough. */
const MIN_ROUNDS = 50_000;
const MIN_TURNS = 50_000;

const wide = vouched({ name: 'example' }, { kind: 4, trust: 3, coverSubdomains: true });
const deep = vouched({ name: 'x.b.example' }, { kind: 2, trust: 1 });
const moving = vouched({ name: 'reef.test' });
const texts = ['a', 'bb', 'ccc'].map((page) => ({
  ...moving,
  did: `did:plc:${page[0]!.repeat(24)}`,
  url: `https://harbor.test/${page.repeat(100)}/reef.test`,
}));

test('a name that comes and goes under several that exist only for it is there, or covered, and never nothing', async () => {
  const far = vouched({ name: 'x.y.z.b.example' }, { kind: 2, trust: 1 });
  const zone = zoneOf(wide);
  const questions = [
    queryPacket(`x.y.z.b.example.dom.${apex}`, 'A'),
    queryPacket(`x.y.z.b.example._vouch.${apex}`, 'TXT'),
  ];
  const said = await answersDuring(zone, questions, (turn) => {
    zone.apply({ ...far, removed: turn % 2 === 1 });
  });
  assert.deepEqual(said, [['127.0.2.1', '127.0.4.3'], ['transaction']]);
});

test('a thread that answers while another changes the zone never sees half a change', async () => {
  const zone = zoneOf(wide, texts[0]!);
  const questions = [
    queryPacket(`x.b.example.dom.${apex}`, 'A'),
    queryPacket(`y.b.example.dom.${apex}`, 'A'),
    queryPacket(`reef.test.dom.${apex}`, 'TXT'),
    queryPacket(`5.2.0.192.ip.${apex}`, 'A'),
  ];
  const said = await answersDuring(zone, questions, (turn) => {
    zone.apply({ ...deep, removed: turn % 2 === 1 });
    zone.apply(texts[turn % 3]!);
    zone.apply(vouched({ address: '192.0.2.5' }, { removed: turn % 2 === 1 }));
  });
  assert.deepEqual(said, [
    ['127.0.2.1', '127.0.4.3'],
    ['127.0.4.3', 'not there'],
    texts
      .map(({ did, url }) => `did=${did} vouched-by=did:web:harbor.test,did:web:meadow.test url=${url}`)
      .sort(),
    ['127.0.3.1', 'not there'],
  ]);
});

/** Whatever another thread was told, for each question, in so many rounds while changes went on. */
async function answersDuring(zone: Zone, questions: Buffer[], change: (turn: number) => void) {
  const shared = new SharedArrayBuffer(8);
  const words = new Int32Array(shared);
  const worker = new Worker(new URL('dnsbl-reading-thread.ts', import.meta.url), {
    workerData: { share: zone.share(), questions, shared },
  });
  await once(worker, 'message');
  for (let turn = 0; Atomics.load(words, 1) < MIN_ROUNDS || turn < MIN_TURNS; turn++) change(turn);
  const ended = once(worker, 'message');
  Atomics.store(words, 0, 1);
  const [seen] = (await ended) as [string[][]];
  return seen.map((messages) => [...new Set(messages.map(textOf))].sort());
}

function textOf(message: string): string {
  if (message === 'not there') return message;
  const [first] = decoded(Buffer.from(message, 'latin1')).answers ?? [];
  return first?.type === 'TXT'
    ? [first.data].flat().map(String).join('')
    : String(first && 'data' in first && first.data);
}
