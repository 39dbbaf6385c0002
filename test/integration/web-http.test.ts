import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { XrpcStreamServer } from '@atproto/xrpc-server';
import { closeHttp, createHttp } from '../../node/web/http.ts';
import { registerStyle } from '../../node/web/style.ts';
import { asksWhoCalls, knowsCaller } from '../../node/web/subscriber-places.ts';
import { Xrpc } from '../../node/web/xrpc.ts';

const method = 'com.atproto.label.subscribeLabels';

async function openHttp(maxSubscribers = 10, proxies: string[] = []) {
  const log = { error: () => undefined };
  const xrpc = new Xrpc({ addMethods: () => undefined, log });
  const stream = new XrpcStreamServer({
    noServer: true,
    // A subscription that never has anything to say.
    async *handler(_request, signal) {
      await once(signal, 'abort').catch(() => undefined);
    },
  });
  const { subscriptions } = await xrpc.open();
  subscriptions.set(method, stream);
  const counted: string[] = [];
  const http = createHttp({
    xrpc,
    ...{ maxSubscribers, proxies },
    count: (what) => void counted.push(what),
    log,
  });
  http.get('/', () => 'hello');
  http.get('/who', (request) => request.ip);
  registerStyle(http);
  await http.listen({ host: '127.0.0.1', port: 0 });
  return { http, xrpc, counted, port: (http.server.address() as AddressInfo).port };
}

/** A raw WebSocket client that upgrades and then ignores everything. */
async function upgrade(port: number, path: string, header = '') {
  const socket = connect(port, '127.0.0.1');
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: x\r\n${header}Connection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  const [answer] = (await once(socket, 'data')) as [Buffer];
  return { socket, status: answer.toString().split('\r\n', 1)[0] };
}

test('a subscriber that ignores the goodbye does not hold the port open', async () => {
  const { http, xrpc, port } = await openHttp();
  const { socket, status } = await upgrade(port, `/xrpc/${method}`);
  assert.match(status!, /101/);
  socket.on('error', () => undefined);
  const ended = once(socket, 'close');
  await closeHttp(http, xrpc);
  await ended;
  assert.equal(http.server.listening, false);
});

test('one subscriber too many is refused and counted, an unknown one is 404', async () => {
  const { http, xrpc, port, counted } = await openHttp(1);
  const first = await upgrade(port, `/xrpc/${method}`);
  const second = await upgrade(port, `/xrpc/${method}`);
  assert.match(second.status!, /503/);
  assert.deepEqual(counted, ['subscribers_refused']);
  const unknown = await upgrade(port, '/xrpc/no.such.method');
  assert.match(unknown.status!, /404/);
  const elsewhere = await upgrade(port, `/abcd/${method}`);
  assert.match(elsewhere.status!, /404/);
  for (const { socket } of [first, second, unknown, elsewhere]) socket.destroy();
  await closeHttp(http, xrpc);
});

test('pages come with a policy that runs no script; what is not there is 404 from the catalogue', async () => {
  const { http, xrpc, port } = await openHttp();
  const page = await fetch(`http://127.0.0.1:${port}/`);
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'/);
  const missing = await fetch(`http://127.0.0.1:${port}/nothing`);
  assert.equal(missing.status, 404);
  assert.equal(((await missing.json()) as { code: string }).code, 'NOT_FOUND');
  await closeHttp(http, xrpc);
});

test('a connection from before the stop cannot open a subscription after it', async () => {
  const { http, xrpc, port } = await openHttp();
  const late = connect(port, '127.0.0.1');
  await once(late, 'connect');
  late.on('error', () => undefined);
  const closed = closeHttp(http, xrpc);
  late.write(
    `GET /xrpc/${method} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  let text = '';
  late.on('data', (bytes) => {
    text += bytes;
  });
  await once(late, 'close');
  await closed;
  assert.doesNotMatch(text, /101 Switching/);
});

test('behind a proxy that the operator names, each client has its own address; nobody else may claim one', async () => {
  const forwarded = { 'x-forwarded-for': '198.51.100.9, 203.0.113.5' };
  for (const [proxies, ip] of [
    [['127.0.0.1'], '203.0.113.5'],
    [['10.0.0.2'], '127.0.0.1'],
    [[], '127.0.0.1'],
  ] as const) {
    const { http, xrpc, port } = await openHttp(10, [...proxies]);
    const answer = await fetch(`http://127.0.0.1:${port}/who`, { headers: forwarded });
    assert.equal(await answer.text(), ip);
    await closeHttp(http, xrpc);
  }
});

test('behind a proxy each subscriber has its own address, and one client never shuts the others out', async (t) => {
  const { http, xrpc, port } = await openHttp(40);
  const open = async (forwarded: string) => {
    const header = forwarded && `X-Forwarded-For: ${forwarded}\r\n`;
    const { socket, status } = await upgrade(port, `/xrpc/${method}`, header);
    t.after(() => socket.destroy());
    return status!.split(' ')[1];
  };
  const flood = ['192.0.2.1, 203.0.113.5', '192.0.2.2, 203.0.113.5', '192.0.2.3,203.0.113.5, 127.0.0.1'];
  assert.deepEqual([await open(flood[0]!), await open(flood[1]!)], ['101', '101']);
  assert.equal(await open(flood[2]!), '503', 'what a client says of itself does not count');
  assert.equal(await open('198.51.100.7'), '101');
  const nameless = [];
  for (let i = 0; i < 21; i += 1) nameless.push(await open(''));
  assert.equal(nameless.filter((status) => status === '101').length, 20, 'half of the places');
  assert.equal(await open('198.51.100.8'), '101');
  await closeHttp(http, xrpc);
});

test('who does not say who calls holds a place of few, for seconds, and takes none of the others', async (t) => {
  const { http, xrpc, port } = await openHttp(2);
  const channel = 'email.atmos.reputation.subscribe';
  const known = Promise.withResolvers<void>();
  const stream = new XrpcStreamServer({
    noServer: true,
    async *handler(request, signal) {
      if (request.headers.authorization) {
        knowsCaller(request);
        known.resolve();
      }
      await once(signal, 'abort').catch(() => undefined);
    },
  });
  asksWhoCalls(stream.wss);
  (await xrpc.open()).subscriptions.set(channel, stream);
  const open = (header = '') => upgrade(port, `/xrpc/${channel}`, header);
  const peer = await open('Authorization: Bearer x\r\n');
  await known.promise;
  const strangers = await Promise.all(Array.from({ length: 9 }, () => open()));
  const sockets = strangers.map(({ socket }) => socket);
  t.after(() => [peer.socket, ...sockets].forEach((socket) => void socket.destroy()));
  const statuses = strangers.map(({ status }) => status!.split(' ')[1]);
  assert.deepEqual(statuses.sort(), [...Array(8).fill('101'), '503']);
  const reader = await upgrade(port, `/xrpc/${method}`);
  assert.match(reader.status!, /101/);
  await Promise.all(sockets.map((socket) => socket.closed || once(socket.resume(), 'close')));
  assert.equal(peer.socket.destroyed, false, 'who is known stays');
  const next = await open();
  assert.match(next.status!, /101/);
  for (const { socket } of [next, reader]) socket.destroy();
  await closeHttp(http, xrpc);
});

test('the stylesheet of mailed pages is there without the public pages', async () => {
  const { http, xrpc, port } = await openHttp();
  const answer = await fetch(`http://127.0.0.1:${port}/assets/style.css`);
  assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, 'text/css; charset=utf-8']);
  await closeHttp(http, xrpc);
});
