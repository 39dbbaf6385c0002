/**
 * The labeler's public face over real sockets, read by atproto's own software: @atproto/api's client
 * asks queryLabels, xrpc-server's Subscription reads the stream, @atproto/crypto verifies.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { inspect } from 'node:util';
import { AtpAgent } from '@atproto/api';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import type { LexMap } from '@atproto/lex-data';
import { Subscription } from '@atproto/xrpc-server';
import { type RawData, WebSocket } from 'ws';
import { openDatabase } from '../../appview/database.ts';
import { decodeFrame, type Frame } from '../../appview/labels/codec.ts';
import { com } from '../../lexicons/index.ts';
import { signDeclaration, verifyDeclaration } from '../../node/cooperative/declaration.ts';
import { registerDeclaration } from '../../node/cooperative/xrpc.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { registerLabeler } from '../../node/labeler/xrpc.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { closeHttp, createHttp } from '../../node/web/http.ts';
import { Xrpc } from '../../node/web/xrpc.ts';
import { cooperative } from '../unit/labeler-fixtures.ts';

const src = 'did:web:harbor.test';
const val = 'verified-mail-operator';
const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
const nsid = com.atproto.label.subscribeLabels.$nsid;
type LabelsMessage = com.atproto.label.subscribeLabels.Labels;

type Started = {
  heartbeatMs?: number;
  now?: () => number;
  db?: ReturnType<typeof openDatabase>;
  key?: Secp256k1Keypair;
  port?: number;
};

async function startLabeler({ port = 0, now = Date.now, ...options }: Started = {}) {
  const db = options.db ?? openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const key = options.key ?? (await Secp256k1Keypair.create());
  const issued = new IssuedLabels({ db, did: src, key, now });
  const counts: string[] = [];
  const count = (what: string) => void counts.push(what);
  const log = { error: (fields: object, text: string) => assert.fail(`${text} ${inspect(fields)}`) };
  const xrpc = new Xrpc({ addMethods: () => undefined, log });
  await registerLabeler(xrpc, {
    ...{ db, issued, now, log, count },
    ...(options.heartbeatMs && { heartbeatMs: options.heartbeatMs }),
  });
  const http = createHttp({ xrpc, maxSubscribers: 20, count, log });
  await http.listen({ host: '127.0.0.1', port });
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= closeHttp(http, xrpc);
    return stopping;
  };
  after(async () => {
    await stop();
    if (db.open) db.close();
  });
  const at = `127.0.0.1:${(http.server.address() as AddressInfo).port}`;
  return { stop, xrpc, issued, key, counts, http: `http://${at}`, ws: `ws://${at}` };
}

const uriOf = (n: number) => `at://did:plc:m${n}/email.atmos.attestation/m${n}.test`;
const issueTo = (issued: IssuedLabels, n: number) =>
  issued.append({ issue: [{ uri: uriOf(n), val, cid }], negate: [] });

/** Reads until `count` messages came, or messages with so many labels. @returns the messages */
async function read(
  service: string,
  cursor: number | undefined,
  count: number,
  labels = Number.POSITIVE_INFINITY,
): Promise<LabelsMessage[]> {
  const stop = new AbortController();
  const subscription = new Subscription<LabelsMessage>({
    service,
    method: nsid,
    signal: stop.signal,
    getParams: () => (cursor === undefined ? {} : { cursor }),
    validate: (value) => com.atproto.label.subscribeLabels.labels.parse(value) as LabelsMessage,
  });
  const seen: LabelsMessage[] = [];
  let left = labels;
  for await (const message of subscription) {
    seen.push(message);
    left -= message.labels.length;
    if (seen.length === count || left <= 0) break;
  }
  stop.abort();
  return seen;
}

function labelsOf(messages: readonly LabelsMessage[]): number {
  return messages.reduce((sum, { labels }) => sum + labels.length, 0);
}

/** Every frame until the server closes, and the code it closes with. */
async function readToEnd(url: string): Promise<{ frames: (Frame | undefined)[]; code: number }> {
  const socket = new WebSocket(url);
  const frames: (Frame | undefined)[] = [];
  socket.on('message', (bytes: RawData) => frames.push(decodeFrame(bytes as Buffer)));
  const [code] = (await once(socket, 'close')) as [number];
  return { frames, code };
}

test('Subscription replays from the oldest label, and @atproto/crypto verifies each', async () => {
  const { issued, key, ws } = await startLabeler();
  await issueTo(issued, 1);
  await issued.append({ issue: [], negate: [{ uri: uriOf(1), val }] });
  const messages = await read(ws, 0, 2);
  assert.deepEqual(
    messages.map(({ seq }) => seq),
    [1, 2],
  );
  assert.deepEqual(
    messages.map(({ labels }) => labels[0]!.neg),
    [undefined, true],
  );
  for (const { labels } of messages) {
    const { sig, ...fields } = labels[0]!;
    assert.equal(labels[0]!.src, src);
    assert.equal(await verifySignature(key.did(), encode(fields as LexMap), sig!), true);
  }
});

test('a reader between old and new labels gets each once: no gap, no double', async () => {
  const { issued, ws } = await startLabeler();
  const total = 600;
  for (let n = 1; n <= 300; n++) await issueTo(issued, n);
  const writing = (async () => {
    for (let n = 301; n <= total; n++) await issueTo(issued, n);
  })();
  const readers = await Promise.all([read(ws, 0, total), read(ws, 150, total - 150), read(ws, 0, total)]);
  await writing;
  const all = Array.from({ length: total }, (_, i) => i + 1);
  assert.deepEqual(
    readers[0].map(({ seq }) => seq),
    all,
  );
  assert.deepEqual(
    readers[1].map(({ seq }) => seq),
    all.slice(150),
  );
  assert.deepEqual(
    readers[2].map(({ labels }) => labels[0]!.uri),
    all.map(uriOf),
  );
});

test('a reader resumes after the label that it stored last', async () => {
  const { issued, ws } = await startLabeler();
  for (let n = 1; n <= 5; n++) await issueTo(issued, n);
  const first = await read(ws, 0, 2);
  const rest = await read(ws, first.at(-1)!.seq, 3);
  assert.deepEqual(
    rest.map(({ seq }) => seq),
    [3, 4, 5],
  );
});

test('without a cursor only what comes from now on is sent', async () => {
  const { issued, ws } = await startLabeler();
  await issueTo(issued, 1);
  const socket = new WebSocket(`${ws}/xrpc/${nsid}`);
  // The handler runs in the turn of the handshake; a pong says that this turn is over.
  await once(socket, 'open');
  socket.ping();
  await once(socket, 'pong');
  const message = once(socket, 'message');
  await issueTo(issued, 2);
  const frame = decodeFrame((await message)[0] as Buffer);
  assert.ok(frame?.kind === 'labels' && frame.seq === 2);
  socket.terminate();
});

test('a cursor ahead of us is answered FutureCursor, and the stream ends', async () => {
  const { issued, ws } = await startLabeler();
  await issueTo(issued, 1);
  const { frames, code } = await readToEnd(`${ws}/xrpc/${nsid}?cursor=2`);
  assert.deepEqual(frames, [{ kind: 'error', error: 'FutureCursor', message: 'the newest label is 1' }]);
  assert.equal(code, 1008);
});

for (const cursor of ['-1', '1.5', 'abc', '99999999999999999999']) {
  test(`cursor=${cursor} is an invalid request`, async () => {
    const { ws } = await startLabeler();
    const { frames } = await readToEnd(`${ws}/xrpc/${nsid}?cursor=${cursor}`);
    assert.equal(frames[0]?.kind === 'error' && frames[0].error, 'InvalidRequest');
  });
}

test('a cursor behind history that is gone is told OutdatedCursor first, then gets what is left', async () => {
  const clock = { now: Date.now() };
  const { issued, ws } = await startLabeler({ now: () => clock.now });
  await issueTo(issued, 1);
  await issued.append({ issue: [], negate: [{ uri: uriOf(1), val }] });
  clock.now += 91 * 86_400_000;
  await issueTo(issued, 2);
  const frames = async (cursor: number, count: number) => {
    const socket = new WebSocket(`${ws}/xrpc/${nsid}?cursor=${cursor}`);
    const seen: (Frame | undefined)[] = [];
    await new Promise<void>((resolve) => {
      socket.on('message', (bytes: RawData) => {
        seen.push(decodeFrame(bytes as Buffer));
        if (seen.length === count) resolve();
      });
    });
    socket.terminate();
    return seen.map((frame) => (frame?.kind === 'info' ? frame.name : frame?.kind === 'labels' && frame.seq));
  };
  // What is in memory goes out as it is; from disk nothing is left of the first two.
  assert.equal((await frames(1, 2))[0], 'OutdatedCursor');
  assert.equal(typeof (await frames(0, 1))[0], 'number');
});

test('a restart between two frames loses none and repeats none', async () => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const key = await Secp256k1Keypair.create();
  const first = await startLabeler({ db, key });
  for (let n = 1; n <= 3; n++) await issueTo(first.issued, n);
  const port = Number(new URL(first.http).port);
  const seen: LabelsMessage[] = [];
  const stop = new AbortController();
  const subscription = new Subscription<LabelsMessage>({
    service: first.ws,
    method: nsid,
    signal: stop.signal,
    maxReconnectSeconds: 0.05,
    getParams: () => ({ cursor: seen.at(-1)?.seq ?? 0 }),
    validate: (value) => com.atproto.label.subscribeLabels.labels.parse(value) as LabelsMessage,
  });
  let second: Awaited<ReturnType<typeof startLabeler>> | undefined;
  for await (const message of subscription) {
    seen.push(message);
    if (seen.length === 2) {
      await first.stop();
      second = await startLabeler({ db, key, port });
      for (let n = 4; n <= 6; n++) await issueTo(second.issued, n);
    }
    if (seen.at(-1)!.seq === 6) break;
  }
  stop.abort();
  assert.deepEqual(
    seen.flatMap(({ labels }) => labels.map(({ uri }) => uri)),
    [1, 2, 3, 4, 5, 6].map(uriOf),
  );
});

test('who stops reading holds one batch of frames, delays nobody, and is cut off', async () => {
  const { issued, ws, xrpc, counts } = await startLabeler({ heartbeatMs: 1_500 });
  const stalled = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`);
  await once(stalled, 'open');
  stalled.pause();
  const [there] = [...xrpc.subscriptions.get(nsid)!.wss.clients];
  const closed = once(there!, 'close');
  const total = 2_200;
  const issuing = (async () => {
    const long = 'x'.repeat(2_500);
    for (let n = 0; n < total; n += 200)
      await Promise.all(
        Array.from({ length: 200 }, (_, i) =>
          issued.append({ issue: [{ uri: `at://did:plc:m/${long}/${n + i}`, val }], negate: [] }),
        ),
      );
  })();
  const messages = await read(ws, 0, Number.POSITIVE_INFINITY, total);
  await issuing;
  assert.equal(labelsOf(messages), total);
  assert.ok(there!.bufferedAmount < 256 * 1024, `${there!.bufferedAmount} octets wait`);
  await closed;
  assert.deepEqual(counts, ['subscribers_dropped']);
  stalled.terminate();
});

test('all subscribers share one encoding of a frame', async () => {
  const { issued, ws } = await startLabeler();
  await issueTo(issued, 1);
  const [frame] = await issued.since(0);
  assert.equal(frame!.bytes, (await issued.since(0))[0]!.bytes);
  const raw = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`);
  const [bytes] = (await once(raw, 'message')) as [Buffer];
  assert.deepEqual(bytes, Buffer.from(frame!.bytes));
  raw.terminate();
});

test('a subscriber that answers no ping is cut off, one that does stays', async () => {
  const { ws, issued, counts } = await startLabeler({ heartbeatMs: 100 });
  const deaf = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`, { autoPong: false });
  const alive = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`);
  await Promise.all([once(deaf, 'close'), once(alive, 'open')]);
  assert.deepEqual(counts, ['subscribers_dropped']);
  const message = once(alive, 'message');
  await issueTo(issued, 1);
  await message;
  alive.terminate();
});

test('a loop that was too busy to hear an answer cuts nobody off', async () => {
  const { ws, issued, counts } = await startLabeler({ heartbeatMs: 100 });
  const alive = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`);
  await once(alive, 'ping');
  // Its answer is on the way, and lies there while two of its times go by.
  for (const until = performance.now() + 250; performance.now() < until; );
  await once(alive, 'ping');
  const message = once(alive, 'message');
  await issueTo(issued, 1);
  await message;
  assert.deepEqual(counts, []);
  alive.terminate();
});

test('a subscriber that talks to us is cut off before it is heard', async () => {
  const { ws } = await startLabeler();
  const socket = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`);
  await once(socket, 'open');
  socket.send(Buffer.alloc(2_000));
  const [code] = (await once(socket, 'close')) as [number];
  assert.equal(code, 1009);
});

test("@atproto/api's client reads labels in force, by page, by pattern and by source", async () => {
  const { issued, key, http } = await startLabeler();
  for (let n = 1; n <= 5; n++) await issueTo(issued, n);
  await issued.append({ issue: [], negate: [{ uri: uriOf(3), val }] });
  const agent = new AtpAgent({ service: http });
  const ask = async (params: {
    uriPatterns: string[];
    sources?: string[];
    limit?: number;
    cursor?: string;
  }) => (await agent.com.atproto.label.queryLabels(params)).data;

  const first = await ask({ uriPatterns: ['at://did:plc:*'], limit: 3 });
  const second = await ask({ uriPatterns: ['at://did:plc:*'], limit: 3, cursor: first.cursor! });
  assert.deepEqual(
    [...first.labels, ...second.labels].map(({ uri }) => uri),
    [1, 2, 4, 5].map(uriOf),
  );
  assert.equal(second.cursor, undefined);

  const { sig, ...fields } = (await ask({ uriPatterns: [uriOf(2)] })).labels[0]!;
  assert.equal(await verifySignature(key.did(), encode(fields as LexMap), sig as Uint8Array), true);

  assert.equal((await ask({ uriPatterns: ['*'], sources: [src] })).labels.length, 4);
  assert.deepEqual(await ask({ uriPatterns: ['*'], sources: ['did:web:meadow.test'] }), { labels: [] });
  await assert.rejects(ask({ uriPatterns: ['at://*/x'] }), { error: 'InvalidRequest' });
  await assert.rejects(ask({ uriPatterns: ['*'], cursor: 'made-up' }), { error: 'InvalidRequest' });
  await assert.rejects(ask({ uriPatterns: ['*'], limit: 251 }), { error: 'InvalidRequest' });
});

test('the declaration is served as the bytes that were signed', async () => {
  const { xrpc, http, key } = await startLabeler();
  const issuedAt = Date.now();
  const bytes = await signDeclaration(
    { iss: src, issuedAt, lifetimeMs: 60_000, cooperative, peers: [] },
    key,
  );
  registerDeclaration(await xrpc.open(), async () => bytes);
  const response = await fetch(`${http}/xrpc/email.atmos.cooperative.getDeclaration`);
  assert.equal(response.headers.get('content-type'), 'application/vnd.ipld.dag-cbor');
  const received = new Uint8Array(await response.arrayBuffer());
  assert.equal(verifyDeclaration(received, { did: src, labelKey: key.did() }, issuedAt).kind, 'valid');
});
