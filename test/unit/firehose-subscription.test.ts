import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import { maxFrameBytes } from '../../appview/firehose/frame.ts';
import { follow, type SubscriptionOptions } from '../../appview/firehose/subscription.ts';
import { lookupBy } from '../../appview/identity/fetch.ts';
import { type Counted, counters, quiet } from './labels-fixtures.ts';

class Corrupt extends Error {}

describe('a subscription', () => {
  let server: WebSocketServer;
  let source: string;
  let stopping: AbortController;
  let counted: Counted;
  let following: Promise<void> | undefined;

  beforeEach(async () => {
    server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    source = `ws://127.0.0.1:${(server.address() as { port: number }).port}`;
    stopping = new AbortController();
    counted = counters();
    following = undefined;
  });

  afterEach(async () => {
    stopping.abort();
    await following;
    for (const client of server.clients) client.terminate();
    await new Promise((resolve) => server.close(resolve));
  });

  function start(options: Partial<SubscriptionOptions>): Promise<void> {
    const defaults = { source, cursor: () => 0, onFrame: async () => undefined, firstPauseMs: 1 };
    const shared = { signal: stopping.signal, log: quiet, count: counted.count };
    following = follow({ ...defaults, ...shared, ...options }, (error) => error instanceof Corrupt);
    return following;
  }

  async function connection(): Promise<{ socket: WebSocket; path: string }> {
    const [socket, request] = await once(server, 'connection');
    return { socket, path: request.url };
  }

  test('asks from the cursor that stands when it connects, at first and after each loss', async () => {
    let cursor = 0;
    const first = connection();
    const handled = Promise.withResolvers<void>();
    start({
      cursor: () => cursor,
      onFrame: async ([seq]) => {
        cursor = seq!;
        handled.resolve();
      },
    });
    const { socket, path } = await first;
    assert.equal(path, '/xrpc/com.atproto.sync.subscribeRepos?cursor=0');
    const second = connection();
    socket.send(Buffer.from([42]));
    await handled.promise;
    socket.terminate();
    assert.equal((await second).path, '/xrpc/com.atproto.sync.subscribeRepos?cursor=42');
    assert.equal(counted.of('firehose_reconnects'), 1);
  });

  test('finds its source by the lookup that it is given', async () => {
    const asked: string[] = [];
    const first = connection();
    start({
      source: source.replace('127.0.0.1', 'relay.test'),
      lookup: lookupBy({
        ...{ allowLoopback: true, loopbackOnly: false },
        lookup: async (name) => {
          asked.push(name);
          return ['127.0.0.1'];
        },
      }),
    });
    await first;
    assert.deepEqual(asked, ['relay.test']);
  });

  test('hands over one frame at a time, in order, however slow the handler', async () => {
    const seen: number[] = [];
    const all = Promise.withResolvers<void>();
    let inHand = 0;
    const first = connection();
    start({
      onFrame: async (frame) => {
        assert.equal(++inHand, 1);
        await new Promise((resolve) => setImmediate(resolve));
        inHand--;
        seen.push(frame[0]!);
        if (seen.length === 100) all.resolve();
      },
    });
    const { socket } = await first;
    for (let i = 0; i < 100; i++) socket.send(Buffer.from([i]));
    await all.promise;
    assert.deepEqual(
      seen,
      Array.from({ length: 100 }, (_, i) => i),
    );
  });

  test('a slow handler slows the source instead of filling memory', async () => {
    const release = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    let taken = 0;
    const all = Promise.withResolvers<void>();
    const first = connection();
    start({
      onFrame: async () => {
        held.resolve();
        await release.promise;
        if (++taken === 64) all.resolve();
      },
    });
    const { socket } = await first;
    for (let i = 0; i < 64; i++) socket.send(Buffer.alloc(1_000_000));
    await held.promise;
    // Far more than the buffers of two sockets stays with the sender.
    assert.ok(socket.bufferedAmount > 32_000_000, `${socket.bufferedAmount} bytes wait at the source`);
    release.resolve();
    await all.promise;
  });

  test('a frame whose handler fails comes again', async () => {
    const attempts: number[] = [];
    const done = Promise.withResolvers<void>();
    server.on('connection', (socket) => socket.send(Buffer.from([7])));
    start({
      onFrame: async ([seq]) => {
        attempts.push(seq!);
        if (attempts.length < 3) throw new Error('the disk is full');
        done.resolve();
      },
    });
    await done.promise;
    assert.deepEqual(attempts, [7, 7, 7]);
  });

  test('a fatal error is passed on', async () => {
    server.on('connection', (socket) => socket.send(Buffer.from([7])));
    const ended = start({ onFrame: () => Promise.reject(new Corrupt()) });
    following = undefined;
    await assert.rejects(ended, Corrupt);
  });

  test('a source that refuses, resets or talks too much is asked again', async () => {
    let connections = 0;
    const third = Promise.withResolvers<void>();
    server.on('connection', (socket) => {
      connections++;
      if (connections === 1) socket.close(1008, 'no');
      if (connections === 2) socket.send(Buffer.alloc(maxFrameBytes + 1));
      if (connections === 3) third.resolve();
    });
    start({ onFrame: () => assert.fail('no frame') });
    await third.promise;
    assert.equal(counted.of('firehose_reconnects'), 2);
  });

  test('a source that is silent even to a ping is asked again', async () => {
    server.options.autoPong = false;
    const first = connection();
    start({ pingEveryMs: 5 });
    await first;
    await connection();
  });

  test('text is handed over as bytes, for the reader to refuse', async () => {
    const seen = Promise.withResolvers<Buffer>();
    server.on('connection', (socket) => socket.send('{"seq":1}'));
    start({ onFrame: async (frame) => seen.resolve(frame) });
    assert.equal((await seen.promise).toString(), '{"seq":1}');
  });

  test('ends at once: while it reads, pauses or connects', async () => {
    const first = connection();
    const reading = start({});
    await first;
    stopping.abort();
    await reading;

    stopping = new AbortController();
    const counting = Promise.withResolvers<void>();
    const pausing = start({
      source: 'ws://127.0.0.1:1',
      firstPauseMs: 60_000,
      count: () => counting.resolve(),
    });
    await counting.promise;
    stopping.abort();
    await pausing;

    stopping = new AbortController();
    const connecting = start({});
    stopping.abort();
    await connecting;
  });
});
