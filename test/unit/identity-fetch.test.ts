import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { FetchFailed, FetchRefused, guardedFetch } from '../../appview/identity/fetch.ts';

describe('the guarded fetch', () => {
  const requests: string[] = [];
  let server: Server;
  let port: number;
  const answers: Record<string, RequestListener> = {
    '/hello': (request, response) => response.end(`hello ${request.headers['x-name']}`),
    '/redirect': (_, response) => response.writeHead(302, { location: '/hello' }).end(),
    '/kilobyte': (_, response) => response.end('x'.repeat(1024)),
    '/endless': (_, response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      };
      response.on('drain', more);
      more();
    },
    '/silent': () => undefined,
    '/slow': (_, response) => response.write('one byte'),
    '/upgrade': (_, response) => {
      response.socket?.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n');
    },
    '/cut': (_, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half');
      response.socket?.end();
    },
  };
  const local = guardedFetch({ allowLoopback: true, loopbackOnly: true });
  const open = guardedFetch({ allowLoopback: false, loopbackOnly: false });

  before(async () => {
    server = createServer((request, response) => {
      requests.push(request.url!);
      answers[request.url!]?.(request, response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as { port: number }).port;
  });

  after(() => {
    server.closeAllConnections();
    server.close();
  });

  test('brings status, headers and body, through a name or an address', async () => {
    for (const host of ['127.0.0.1', 'localhost']) {
      const got = await local(`http://${host}:${port}/hello`, { headers: { 'x-name': 'Reef' } });
      assert.equal(got.status, 200);
      assert.equal(Buffer.from(got.body).toString(), 'hello Reef');
      assert.ok(got.headers.date);
    }
  });

  test('a redirect is not followed', async () => {
    requests.length = 0;
    assert.equal((await local(`http://127.0.0.1:${port}/redirect`)).status, 302);
    assert.deepEqual(requests, ['/redirect']);
  });

  test('a body over the cap fails, one at the cap does not', async () => {
    const url = `http://127.0.0.1:${port}/kilobyte`;
    assert.equal((await local(url, { maxBytes: 1024 })).body.length, 1024);
    await assert.rejects(local(url, { maxBytes: 1023 }), FetchFailed);
    await assert.rejects(local(`http://127.0.0.1:${port}/endless`), FetchFailed);
  });

  test('a server that does not answer, or not to the end, fails', async () => {
    await assert.rejects(local(`http://127.0.0.1:${port}/silent`, { timeoutMs: 50 }), FetchFailed);
    await assert.rejects(local(`http://127.0.0.1:${port}/slow`, { timeoutMs: 50 }), FetchFailed);
    await assert.rejects(local(`http://127.0.0.1:${port}/upgrade`), FetchFailed);
    await assert.rejects(local(`http://127.0.0.1:${port}/cut`), FetchFailed);
    await assert.rejects(local('http://127.0.0.1:1/'), FetchFailed);
  });

  test('nothing reaches an address that the rules forbid', async () => {
    requests.length = 0;
    const refused: [typeof open, string][] = [
      [open, `http://127.0.0.1:${port}/hello`],
      [open, `https://127.0.0.1:${port}/hello`],
      [open, `https://127.1:${port}/hello`],
      [open, `https://0x7f000001:${port}/hello`],
      [open, `https://[::1]:${port}/hello`],
      [open, `https://[::ffff:127.0.0.1]:${port}/hello`],
      // A name that resolves to loopback: what a rebinding attack looks like at the moment of connecting.
      [open, `https://localhost:${port}/hello`],
      [open, 'https://169.254.169.254/latest/meta-data'],
      [open, `https://user:secret@localhost:${port}/`],
      [open, 'file:///etc/passwd'],
      [open, 'nonsense'],
      [local, 'https://1.1.1.1/'],
      [local, 'http://192.168.0.1/'],
      [guardedFetch({ allowLoopback: true, loopbackOnly: false }), 'http://1.1.1.1/'],
    ];
    for (const [fetch, url] of refused) await assert.rejects(fetch(url), FetchRefused, url);
    assert.deepEqual(requests, []);
  });

  test('names are looked up where the rules say, and the addresses are checked as ever', async () => {
    const asked: string[] = [];
    const answers: Record<string, string[]> = {
      'reef.test': ['10.0.0.1', '127.0.0.1'],
      'inner.test': ['192.168.0.1'],
      'odd.test': ['not an address'],
    };
    const lookup = async (name: string) => {
      asked.push(name);
      if (name === 'silent.test') throw new Error('nobody answers');
      return answers[name] ?? [];
    };
    const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: true, lookup });
    const got = await fetch(`http://reef.test:${port}/hello`, { headers: { 'x-name': 'Reef' } });
    assert.equal(got.status, 200);
    await assert.rejects(fetch(`http://inner.test:${port}/hello`), FetchRefused);
    for (const name of ['gone.test', 'silent.test', 'odd.test']) {
      await assert.rejects(fetch(`http://${name}:${port}/hello`), FetchFailed, name);
    }
    assert.deepEqual(asked, ['reef.test', 'inner.test', 'gone.test', 'silent.test', 'odd.test']);
  });

  test('localhost is loopback, and nobody is asked', async () => {
    const lookup = async () => assert.fail('asked');
    const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: false, lookup });
    assert.equal((await fetch(`http://localhost:${port}/hello`)).status, 200);
    const strict = guardedFetch({ allowLoopback: false, loopbackOnly: false, lookup });
    await assert.rejects(strict(`https://localhost:${port}/hello`), FetchRefused);
    await assert.rejects(strict(`https://any.localhost:${port}/hello`), FetchRefused);
  });

  test('where only loopback is allowed and no lookup is given, no other name is looked up at all', async () => {
    await assert.rejects(local('https://example.com/'), /is not looked up/);
  });
});
