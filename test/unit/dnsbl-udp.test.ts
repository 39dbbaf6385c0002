/** What becomes of answers that node's sockets cannot send at once, or at all. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { createSocket, Socket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SOCKET } from '../../dnsbl/counters.ts';
import { UdpEndpoint } from '../../dnsbl/udp.ts';
import { repeater } from './dnsbl-udp-fixtures.ts';

async function waitingEndpoint(t: TestContext, maxUdpSends: number) {
  const child = fork(join(import.meta.dirname, 'dnsbl-udp-child.ts'), [String(maxUdpSends)], {
    execArgv: ['--test-udp-no-try-send'],
  });
  t.after(() => child.kill());
  const [port] = (await once(child, 'message')) as [number];
  return { child, port };
}

async function countsOf(child: ChildProcess): Promise<number[]> {
  child.send('');
  const [counts] = await once(child, 'message');
  return counts as number[];
}

const burst = 300;

test('answers that wait for the kernel keep their octets', async (t) => {
  const { child, port } = await waitingEndpoint(t, 1024);
  const client = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
  t.after(() => client.close());
  const heard: string[] = [];
  const all = new Promise<void>((resolve) => {
    client.on('message', (packet) => heard.push(String(packet)) === burst && resolve());
  });
  // Of several lengths, so that rooms and views are used in every order.
  const asked = Array.from({ length: burst }, (_, index) => `question ${index} ${'-'.repeat(index % 7)}`);
  for (const question of asked) client.send(question, port, '127.0.0.1');
  await all;
  assert.deepEqual(heard.sort(), asked.sort());
  const counts = await countsOf(child);
  assert.equal(counts[SOCKET.udpQueries], burst);
  assert.equal(counts[SOCKET.overload] ?? 0, 0);
});

test('no more answers wait than may, and each query beyond is counted', async (t) => {
  const { child, port } = await waitingEndpoint(t, 1);
  const client = createSocket('udp4');
  t.after(() => client.close());
  let heard = 0;
  client.on('message', () => {
    heard += 1;
  });
  for (let index = 0; index < burst; index++) client.send(`question ${index}`, port, '127.0.0.1');
  let counts = await countsOf(child);
  while (counts[SOCKET.udpQueries] !== burst) counts = await countsOf(child);
  while (heard + (counts[SOCKET.overload] ?? 0) < burst) await new Promise(setImmediate);
  assert.ok(counts[SOCKET.overload]! > 0, 'some came while one waited');
  client.send('later', port, '127.0.0.1');
  const [packet] = await once(client, 'message');
  assert.equal(String(packet), 'later');
});

test('sends that go on failing are counted, each after the first that tells', async (t) => {
  let failed = 0;
  let queries = 0;
  const endpoint = new UdpEndpoint(
    { host: '127.0.0.1', port: 0 },
    {
      responder: repeater,
      counters: {
        add: (what) => {
          if (what === SOCKET.sendErrors) failed += 1;
          if (what === SOCKET.udpQueries) queries += 1;
        },
      },
      ...{ maxUdpSends: 1024, reusePort: false },
    },
  );
  const port = await endpoint.listen();
  t.after(() => endpoint.close());
  const client = createSocket('udp4');
  t.after(() => client.close());
  client.bind(0, '127.0.0.1');
  await once(client, 'listening');
  const { send } = Socket.prototype;
  t.mock.method(Socket.prototype, 'send', function (this: Socket, ...words: unknown[]) {
    if (this === client) return Reflect.apply(send, this, words);
    const tell = words.at(-1);
    if (typeof tell === 'function') process.nextTick(tell, new Error('EPERM'));
  });
  const ask = async (times: number) => {
    const until = queries + times;
    for (let index = 0; index < times; index++) client.send('?', port, '127.0.0.1');
    while (queries < until) await new Promise(setImmediate);
    await new Promise(setImmediate);
  };
  await ask(70);
  assert.ok(failed >= 1, 'one of 64 tells');
  const before = failed;
  await ask(100);
  assert.equal(failed - before, 100);
});
