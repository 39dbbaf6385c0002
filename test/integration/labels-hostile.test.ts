/** A peer that misbehaves beside one that does not, over real sockets: what it costs, and whom. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, test } from 'node:test';
import { encode } from '@atproto/lex-cbor';
import { type WebSocket, WebSocketServer } from 'ws';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { LabelConsumer } from '../../appview/labels/consumer.ts';
import { defaultLimits, type LabelLimits } from '../../appview/labels/limits.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { VerifyThreads } from '../../appview/labels/verify-threads.ts';
import { WsLabelSource } from '../../appview/labels/websocket.ts';
import { counters, iso, issuer, memoryDatabases, quiet, uriOf } from '../unit/labels-fixtures.ts';
import { encodeLabelsFrame } from '../unit/labels-frame.ts';
import { ForeignLabeler } from './foreign-labeler.ts';

const localOnly = { allowLoopback: true, loopbackOnly: true };
const ending: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

type Peer = Awaited<ReturnType<typeof issuer>>;
type Behaviour = (peer: Peer, socket: WebSocket, cursor: number) => Promise<void> | void;

/** Its document and its stream; what it does with a connection is its own. */
async function startHostile(behave: Behaviour): Promise<{ did: string; connections: () => number }> {
  let connections = 0;
  const http = createServer((_request, response) => response.end(JSON.stringify(document)));
  http.listen(0, 'localhost');
  await once(http, 'listening');
  const { port } = http.address() as AddressInfo;
  const peer = await issuer(`did:web:localhost%3A${port}`);
  const document = {
    id: peer.did,
    verificationMethod: [
      {
        ...{ id: `${peer.did}#atproto_label`, type: 'Multikey', controller: peer.did },
        publicKeyMultibase: peer.didKey.slice('did:key:'.length),
      },
    ],
    service: [
      { id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: `http://localhost:${port}` },
    ],
  };
  const server = new WebSocketServer({ server: http });
  server.on('connection', async (socket, { url }) => {
    connections += 1;
    socket.on('error', () => undefined);
    const { searchParams } = new URL(url ?? '/', 'http://localhost');
    await behave(peer, socket, Number(searchParams.get('cursor') ?? 0));
  });
  ending.push(() => {
    for (const client of server.clients) client.terminate();
    http.close();
    http.closeAllConnections();
  });
  return { did: peer.did, connections: () => connections };
}

/** Each waits until the socket has taken it, so that this test's memory is not what fills. */
async function send(socket: WebSocket, bytes: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => socket.send(bytes, (error) => resolve(!error)));
}

const world = () => {
  const { db } = memoryDatabases();
  const counted = counters();
  const store = new LabelStore({ db, now: Date.now, count: counted.count });
  const verifier = new VerifyThreads({ threads: 1 });
  const identities = new Identities({
    ...{ plcUrl: 'http://localhost:1', fetch: guardedFetch(localOnly), now: Date.now },
  });
  ending.push(() => verifier.close());
  const follow = (did: string, limits: Partial<LabelLimits> = {}) => {
    const alert = Promise.withResolvers<string>();
    const endpoint = async () => (await identities.resolve(did)).labeler ?? assert.fail('no labeler');
    const { count } = counted;
    const consumer = new LabelConsumer({
      ...{ src: did, store, identities, log: quiet, count, now: Date.now, firstRetryMs: 5, verifier },
      source: new WsLabelSource({ endpoint, rules: localOnly, fetch: guardedFetch(localOnly), count }),
      limits: { ...defaultLimits, ...limits },
      onQuarantine: (_src, reason) => alert.resolve(reason),
    });
    ending.push(() => consumer.stop());
    consumer.start();
    return { consumer, quarantined: alert.promise };
  };
  return { store, counted, follow };
};

const now = () => iso(Date.now());
const many = <T>(count: number, make: (n: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, n) => make(n)));

const behaviours: [reason: string, what: string, behave: Behaviour, limits?: Partial<LabelLimits>][] = [
  [
    'bad_signature',
    'bad signatures',
    async (peer, socket) => {
      const good = await peer.sign({ cts: now() });
      const bad = Array.from({ length: 60 }, (_, n) => ({ ...good, val: `v${n}` }));
      await send(socket, encodeLabelsFrame(1, [good, ...bad]));
    },
  ],
  [
    'foreign_src',
    "another's labels",
    async (peer, socket) => {
      const other = await peer.sign({ src: 'did:web:meadow.test', cts: now() });
      await send(socket, encodeLabelsFrame(1, Array<SignedLabel>(60).fill(other)));
    },
  ],
  [
    'future_cts',
    'a clock that is years ahead',
    async (peer, socket) => {
      const ahead = await many(101, (n) => peer.sign({ val: `v${n}`, cts: '2199-01-01T00:00:00.000Z' }));
      await send(socket, encodeLabelsFrame(1, ahead));
    },
  ],
  [
    'malformed',
    'garbage',
    async (_peer, socket) => {
      for (let n = 0; n < 60; n++) await send(socket, Buffer.alloc(1_000, n));
    },
  ],
  [
    'malformed',
    'frames of labels that are none',
    async (_peer, socket) => {
      const body = encode({ seq: 1, labels: Array(60).fill({ src: 'x' }) });
      await send(socket, Buffer.concat([encode({ op: 1, t: '#labels' }), body]));
    },
  ],
  [
    'too_large',
    'frames of 10 MB',
    async (_peer, socket) => void (await send(socket, Buffer.alloc(10_000_000))),
  ],
  [
    'too_many_labels',
    'an endless backlog',
    async (peer, socket) => {
      const label = await peer.sign({ cts: now() });
      for (let seq = 1; await send(socket, encodeLabelsFrame(seq, [label])); seq++);
    },
    { labelsPerDay: 500 },
  ],
  [
    'endless_backlog',
    'a stream that is never caught up with',
    async (peer, socket) => {
      const label = await peer.sign({ cts: now() });
      const frame = (seq: number) => encodeLabelsFrame(seq, Array<SignedLabel>(100).fill(label));
      for (let seq = 1; await send(socket, frame(seq)); seq++);
    },
    { maxLagMs: 300, labelsPerSecond: 500 },
  ],
];

for (const [reason, what, behave, limits] of behaviours) {
  test(`${what}: quarantined as ${reason}, and the honest peer's labels arrive meanwhile`, async () => {
    const { store, counted, follow } = world();
    const hostile = await startHostile(behave);
    const honest = await ForeignLabeler.start();
    ending.push(() => honest.close());
    const { consumer, quarantined } = follow(hostile.did, limits);
    follow(honest.did);
    const uris = Array.from({ length: 20 }, (_, n) => uriOf(`d${n}.test`));
    for (const [n, uri] of uris.entries()) honest.emit(n + 1, await honest.sign({ uri }));
    assert.equal(await quarantined, reason);
    assert.equal(consumer.status().reason, reason);
    while (store.cursor(honest.did) !== uris.length)
      await counted.reached('labels_accepted', 1).then(breathe);
    for (const uri of uris) assert.equal(store.current(uri)[0]?.label.src, honest.did);
    // A restart finds it quarantined, and does not connect.
    await consumer.stop();
    const before = hostile.connections();
    const restarted = follow(hostile.did, limits).consumer;
    await breathe();
    assert.equal(restarted.state, 'quarantined');
    assert.equal(hostile.connections(), before);
  });
}

test('an issuer that sends faster than its limit waits in its socket', async () => {
  const { store, follow } = world();
  let sent = 0;
  const fast = await startHostile(async (peer, socket) => {
    const label = await peer.sign({ cts: now() });
    const frame = (seq: number) => encodeLabelsFrame(seq, Array<SignedLabel>(500).fill(label));
    for (let seq = 1; await send(socket, frame(seq)); seq++) sent = seq;
  });
  const { consumer } = follow(fast.did, { labelsPerSecond: 1_000 });
  const start = performance.now();
  while ((store.cursor(fast.did) ?? 0) < 4) await breathe();
  const seconds = (performance.now() - start) / 1_000;
  // The first thousand is the burst that is let through.
  assert.ok(seconds >= 0.9, `2,000 labels in ${seconds} s`);
  assert.ok(consumer.status().lagMs > 0);
  assert.ok(sent < 1_000, `${sent} frames were taken`);
});

test('a release goes on behind the frame that brought the quarantine', async () => {
  const { store, counted, follow } = world();
  const peer = await startHostile(async (self, socket, cursor) => {
    const good = await self.sign({ cts: now() });
    const bad = Array.from({ length: 60 }, (_, n) => ({ ...good, val: `v${n}` }));
    if (cursor < 1) await send(socket, encodeLabelsFrame(1, [good, ...bad]));
    await send(socket, encodeLabelsFrame(2, [await self.sign({ uri: uriOf('kelp.test'), cts: now() })]));
  });
  const { consumer, quarantined } = follow(peer.did);
  await quarantined;
  assert.equal(consumer.release(), true);
  while (store.cursor(peer.did) !== 2) await breathe();
  assert.equal(consumer.state, 'following');
  assert.equal(consumer.release(), false);
  assert.equal(store.current(uriOf('kelp.test')).length, 1);
  assert.equal(counted.of('label_stream_quarantined{bad_signature}'), 1);
});

function breathe(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
