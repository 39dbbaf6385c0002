/**
 * The labeler's public face over real sockets, read by atproto's own software: @atproto/api's client
 * asks queryLabels, xrpc-server's Subscription reads the stream, @atproto/crypto verifies.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { after, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import type { LexMap } from '@atproto/lex-data';
import { createServer as createXrpc, Subscription } from '@atproto/xrpc-server';
import { type RawData, WebSocket } from 'ws';
import { openDatabase } from '../../appview/database.ts';
import { decodeFrame, type Frame } from '../../appview/labels/codec.ts';
import { com } from '../../lexicons/index.ts';
import { signDeclaration, verifyDeclaration } from '../../node/cooperative/declaration.ts';
import { registerDeclaration } from '../../node/cooperative/xrpc.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { registerLabeler } from '../../node/labeler/xrpc.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { cooperative } from '../unit/labeler-fixtures.ts';

const src = 'did:web:harbor.test';
const val = 'verified-mail-operator';
const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
const nsid = com.atproto.label.subscribeLabels.$nsid;
type LabelsMessage = com.atproto.label.subscribeLabels.Labels;

async function startLabeler(options: { heartbeatMs?: number } = {}) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const key = await Secp256k1Keypair.create();
  const now = () => Date.now();
  const issued = new IssuedLabels({ db, did: src, key, now });
  const counts: string[] = [];
  const xrpc = createXrpc();
  registerLabeler(xrpc, { db, issued, now, count: (what) => counts.push(what), ...options });
  const http: HttpServer = createServer(xrpc.router);
  http.on('upgrade', (request, socket: Socket, head) => {
    const { wss } = xrpc.subscriptions.get(nsid)!;
    wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));
  });
  await once(http.listen(0, '127.0.0.1'), 'listening');
  const { port } = http.address() as AddressInfo;
  const stop = async () => {
    for (const client of xrpc.subscriptions.get(nsid)!.wss.clients) client.terminate();
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
    db.close();
  };
  after(stop);
  return { xrpc, issued, key, counts, http: `http://127.0.0.1:${port}`, ws: `ws://127.0.0.1:${port}` };
}

const uriOf = (n: number) => `at://did:plc:m${n}/email.atmos.attestation/m${n}.test`;
const issueTo = (issued: IssuedLabels, n: number) =>
  issued.append({ issue: [{ uri: uriOf(n), val, cid }], negate: [] });

/** Reads until `count` messages came. */
async function read(service: string, cursor: number | undefined, count: number): Promise<LabelsMessage[]> {
  const stop = new AbortController();
  const subscription = new Subscription<LabelsMessage>({
    service,
    method: nsid,
    signal: stop.signal,
    getParams: () => (cursor === undefined ? {} : { cursor }),
    validate: (value) => com.atproto.label.subscribeLabels.labels.parse(value) as LabelsMessage,
  });
  const seen: LabelsMessage[] = [];
  for await (const message of subscription) {
    seen.push(message);
    if (seen.length === count) break;
  }
  stop.abort();
  return seen;
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

test('all subscribers share one encoding of a frame', async () => {
  const { issued, ws } = await startLabeler();
  await issueTo(issued, 1);
  const [entry] = issued.since(0);
  assert.equal(entry!.frame, issued.since(0)[0]!.frame);
  const raw = new WebSocket(`${ws}/xrpc/${nsid}?cursor=0`);
  const [bytes] = (await once(raw, 'message')) as [Buffer];
  assert.deepEqual(bytes, Buffer.from(entry!.frame));
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
  registerDeclaration(xrpc, async () => bytes);
  const response = await fetch(`${http}/xrpc/email.atmos.cooperative.getDeclaration`);
  assert.equal(response.headers.get('content-type'), 'application/vnd.ipld.dag-cbor');
  const received = new Uint8Array(await response.arrayBuffer());
  assert.equal(verifyDeclaration(received, { did: src, labelKey: key.did() }, issuedAt).kind, 'valid');
});
