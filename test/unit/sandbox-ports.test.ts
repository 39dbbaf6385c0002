import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { explainTaken, freeOffset, maxOffset, portsAt, probe, usesOf } from '../sandbox/ports.ts';

test('the default ports are those of the README, and an offset moves each of them', () => {
  const numbers = (offset: number) => usesOf(portsAt(offset)).map(({ port }) => port);
  assert.deepEqual(
    numbers(0).toSorted((a, b) => a - b),
    [2465, 2466, 2525, 2526, 2529, 2582, 2583, 2587, 2588, 5300, 5301, 5310, 8025, 8080, 8090],
  );
  assert.deepEqual(
    numbers(1234),
    numbers(0).map((port) => port + 1234),
  );
  assert.ok(Math.max(...numbers(maxOffset)) <= 65_535);
});

test('a free set of ports is found free', async () => {
  assert.deepEqual(await probe(portsAt(await freeOffset())), []);
});

test('a taken TCP port is named with its purpose and a way out', async () => {
  const offset = await freeOffset();
  const port = portsAt(offset).harbor.submission;
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  const taken = await probe(portsAt(offset));
  server.close();
  assert.equal(taken.length, 1);
  const text = explainTaken(taken, offset);
  assert.match(text, new RegExp(`TCP port ${port} on 127\\.0\\.0\\.1 is taken`));
  assert.match(text, /Harbor's submission \(STARTTLS\)/);
  assert.match(text, new RegExp(`--port-offset ${offset + 100}$`));
});

test('a taken UDP port is found though TCP is free', async () => {
  const offset = await freeOffset();
  const socket = createSocket('udp4').bind(portsAt(offset).resolver, '127.0.0.1');
  await once(socket, 'listening');
  const taken = await probe(portsAt(offset));
  socket.close();
  assert.deepEqual(
    taken.map(({ transport, what }) => [transport, what]),
    [['UDP', 'the DNS world (resolver)']],
  );
});

test('a stranger on ::1 is found where the sandbox is asked by the name localhost', async (t) => {
  const offset = await freeOffset();
  const server = createServer();
  server.listen(portsAt(offset).harbor.web, '::1');
  const listening = await once(server, 'listening').then(
    () => true,
    () => false,
  );
  if (!listening) return t.skip('this machine has no IPv6');
  const taken = await probe(portsAt(offset));
  server.close();
  assert.deepEqual(
    taken.map(({ address }) => address),
    ['::1'],
  );
});

test('a listener on every interface takes the port on loopback too', async () => {
  const offset = await freeOffset();
  const server = createServer().listen(portsAt(offset).inbox.smtp, '0.0.0.0');
  await once(server, 'listening');
  const taken = await probe(portsAt(offset));
  server.close();
  assert.deepEqual(
    taken.map(({ what }) => what),
    ["the inbox's SMTP server"],
  );
});
