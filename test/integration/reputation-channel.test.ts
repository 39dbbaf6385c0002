/** Harbor tells and Meadow listens, over real sockets: the whole private channel but the DID documents. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { IssuedSignals } from '../../node/reputation/issued-signals.ts';
import { SignalReader } from '../../node/reputation/reader.ts';
import { Callers, serviceToken } from '../../node/reputation/service-token.ts';
import { queryMethod, subscribeMethod, XrpcChannel } from '../../node/reputation/xrpc-channel.ts';
import { closeHttp, createHttp } from '../../node/web/http.ts';
import { Xrpc } from '../../node/web/xrpc.ts';
import { log, reef } from '../unit/enforcement-fixtures.ts';
import {
  cooperative,
  harbor,
  issuingWorld,
  meadow,
  memorySignals,
  reefUri,
  short,
} from '../unit/reputation-fixtures.ts';

const rules = { allowLoopback: true, loopbackOnly: true };
const count = () => undefined;
const now = Date.now;

/** Harbor's channel on a port, serving whom `served` has. */
async function openHarbor(t: TestContext) {
  const issuing = await issuingWorld();
  const peer = await cooperative(meadow);
  const served = new Set([meadow]);
  const serves = (did: string) => served.has(did);
  const xrpc = new Xrpc({ addMethods: () => undefined, log: { error: () => undefined } });
  const http = createHttp({ xrpc, maxSubscribers: 100, count, log: { error: () => undefined } });
  const callers = new Callers({
    ...{ did: harbor, serves, now, count, refreshKey: () => undefined, startedAt: now() - 10_000 },
    keyOf: (did) => (did === meadow ? peer.key.did() : undefined),
  });
  const channel = new XrpcChannel({
    ...{ did: harbor, key: () => issuing.own.key, xrpc, callers, serves, rules, now },
    endpointOf: async () => '',
  });
  // The clock of the log is the real one here: its labels are read by who believes in theirs.
  const signals = new IssuedSignals({
    ...{ db: issuing.db, did: harbor, key: () => issuing.own.key, now, log, count },
    domainsOf: () => ['reef.test'],
    figuresOf: () => [{ window: '7d', sends: 40, bounces: 3, complaints: 1 }],
  });
  await channel.publish(signals);
  await http.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => closeHttp(http, xrpc));
  const url = `http://127.0.0.1:${(http.server.address() as AddressInfo).port}`;
  const set = async (state: string, detail: object = {}) => {
    issuing.setStanding(state, detail);
    await signals.publishDue();
  };
  const token = (method: string, to = harbor) =>
    serviceToken({ did: meadow, key: peer.key, to, method, now: now() });
  return { ...issuing, signals, peer, served, url, set, token };
}

type Harbor = Awaited<ReturnType<typeof openHarbor>>;

function openMeadow(t: TestContext, { url, peer, own }: Harbor, stored = memorySignals(now)) {
  const quarantines: string[] = [];
  let onStored: () => void = () => undefined;
  const channel = new XrpcChannel({
    ...{ did: meadow, key: () => peer.key, rules, now, serves: () => false },
    xrpc: { open: () => Promise.reject(new Error('not a server')) },
    callers: { callerOf: async () => undefined },
    endpointOf: async () => url,
  });
  const reader = new SignalReader({
    ...{ channel, signals: stored, now, log, count, forgetKey: () => undefined },
    keyOf: async () => own.key.did(),
    vouchedBy: () => 0,
    onStored: () => onStored(),
    onQuarantine: (_, reason) => quarantines.push(reason),
    firstRetryMs: 5,
  });
  t.after(() => reader.stop());
  /** Resolves when what is stored is as wanted. */
  const reached = async (wanted: string[]) => {
    const have = () =>
      stored
        .of({ did: reef })
        .map(({ signal }) => short(signal))
        .sort();
    await new Promise<void>((resolve) => {
      onStored = () => JSON.stringify(have()) === JSON.stringify(wanted) && resolve();
      onStored();
    });
  };
  return { reader, stored, quarantines, reached };
}

test('what Harbor decides, Meadow knows: backlog, live, and the end of it', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('suspended', { code: 'spam' });
  const { reader, stored, reached } = openMeadow(t, harborNode);
  reader.follow([harbor]);
  await reached(['suspended', 'suspended *']);
  const [{ signal }] = stored.of({ domain: 'reef.test' }) as [ReturnType<typeof stored.of>[number]];
  assert.deepEqual([signal.label.uri, signal.reason, signal.figures?.[0]?.sends], [reefUri, 'spam', 40]);
  await harborNode.set('probation');
  await reached(['probation', 'probation *']);
  await harborNode.set('active');
  await reached([]);
});

test('after a restart Meadow goes on behind what it stored, and forgets nothing that ended meanwhile', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('suspended');
  const first = openMeadow(t, harborNode);
  first.reader.follow([harbor]);
  await first.reached(['suspended', 'suspended *']);
  await first.reader.stop();
  await harborNode.set('active');
  const second = openMeadow(t, harborNode, first.stored);
  second.reader.follow([harbor]);
  await second.reached([]);
  assert.equal(second.stored.peer(harbor).cursor, harborNode.signals.newest);
});

test('a peer that is one no more hears nothing from that moment, and is refused when it comes back', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('probation');
  const { reader, stored, reached } = openMeadow(t, harborNode);
  reader.follow([harbor]);
  await reached(['probation', 'probation *']);
  harborNode.served.delete(meadow);
  await harborNode.set('suspended');
  // A stranger to both sides hears the same as the peer of before.
  assert.deepEqual(await firstFrames(harborNode, await harborNode.token(subscribeMethod)), [
    'error NotServed',
  ]);
  assert.deepEqual(
    stored.of({ did: reef }).map(({ signal }) => short(signal)),
    ['probation *', 'probation'],
  );
});

test('what Meadow follows no more, it forgets', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('suspended');
  const { reader, stored, reached } = openMeadow(t, harborNode);
  reader.follow([harbor]);
  await reached(['suspended', 'suspended *']);
  reader.follow([]);
  while (stored.sources().length > 0) await pause(1);
  assert.deepEqual(stored.of({ did: reef }), []);
});

test('a cursor ahead of the log is a quarantine, and the release reads from the start', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('suspended');
  const stored = memorySignals(now);
  stored.receive(harbor, 99, [], { countedAt: () => 0, maxStored: 1 });
  const { reader, quarantines, reached } = openMeadow(t, harborNode, stored);
  reader.follow([harbor]);
  while (quarantines.length === 0) await pause(1);
  assert.deepEqual(quarantines, ['future_cursor']);
  assert.equal(reader.release(harbor), true);
  await reached(['suspended', 'suspended *']);
});

test('nobody else hears anything: the same words for a stranger, a replay, another method, no token', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('suspended');
  const used = await harborNode.token(queryMethod);
  const ask = (authorization?: string) =>
    fetch(`${harborNode.url}/xrpc/${queryMethod}`, { headers: authorization ? { authorization } : {} });
  const good = await ask(`Bearer ${used}`);
  assert.equal(good.status, 200);
  const { signals } = (await good.json()) as { signals: { reason: string; label: { val: string } }[] };
  assert.deepEqual(
    signals.map(({ label }) => label.val),
    ['suspended', 'suspended'],
  );
  const refused = [
    await ask(),
    await ask(`Bearer ${used}`),
    await ask(`Bearer ${await harborNode.token(subscribeMethod)}`),
    await ask(`Bearer ${await harborNode.token(queryMethod, 'did:web:other.test')}`),
    await ask('Bearer nonsense'),
  ];
  const answers = await Promise.all(refused.map(async (one) => [one.status, await one.text()].join(' ')));
  assert.equal(new Set(answers).size, 1);
  assert.match(answers[0]!, /^401 .*NotServed/);
});

test('of one peer the newest two streams stand', async (t) => {
  const harborNode = await openHarbor(t);
  await harborNode.set('suspended');
  const open = async () => {
    const authorization = `Bearer ${await harborNode.token(subscribeMethod)}`;
    const socket = new WebSocket(`${harborNode.url.replace('http', 'ws')}/xrpc/${subscribeMethod}`, {
      headers: { authorization },
    });
    t.after(() => socket.terminate());
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await new Promise((resolve) => socket.once('message', resolve));
    return { socket, closed };
  };
  const streams = [await open(), await open(), await open()];
  await streams[0]!.closed;
  const heard = Promise.all(
    streams.slice(1).map(({ socket }) => new Promise((resolve) => socket.once('message', resolve))),
  );
  await harborNode.set('active');
  await heard;
});

/** What a subscriber is told before the stream ends. */
async function firstFrames({ url }: Harbor, token: string): Promise<string[]> {
  const { decodeSignalFrame } = await import('../../appview/labels/signal.ts');
  const socket = new WebSocket(`${url.replace('http', 'ws')}/xrpc/${subscribeMethod}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const frames: string[] = [];
  socket.on('message', (bytes: Buffer) => {
    const frame = decodeSignalFrame(bytes);
    frames.push(frame.kind === 'error' ? `error ${frame.error}` : frame.kind);
  });
  await new Promise((resolve) => socket.once('close', resolve));
  return frames;
}
