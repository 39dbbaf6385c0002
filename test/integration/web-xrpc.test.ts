import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { closeHttp, createHttp } from '../../node/web/http.ts';
import { Xrpc } from '../../node/web/xrpc.ts';

async function openHttp(t: TestContext, addMethods: () => void) {
  const logged: string[] = [];
  const log = { error: (_fields: object, text: string) => void logged.push(text) };
  const xrpc = new Xrpc({ addMethods, log });
  const http = createHttp({ xrpc, maxSubscribers: 1, count: () => undefined, log });
  await http.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => closeHttp(http, xrpc));
  return { logged, url: `http://127.0.0.1:${(http.server.address() as AddressInfo).port}` };
}

test('the XRPC server is made once, by the first request below /xrpc/', async (t) => {
  let made = 0;
  const { url } = await openHttp(t, () => void made++);
  await fetch(`${url}/elsewhere`);
  assert.equal(made, 0);
  const answers = await Promise.all([1, 2].map(() => fetch(`${url}/xrpc/no.such.method`)));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [501, 501],
  );
  assert.equal(made, 1);
});

test('an XRPC server that cannot be made is a 500 and a line in the log', async (t) => {
  const { url, logged } = await openHttp(t, () => {
    throw new Error('no method today');
  });
  const answer = await fetch(`${url}/xrpc/no.such.method`);
  assert.equal(answer.status, 500);
  assert.deepEqual(logged, ['a request below /xrpc/ failed']);
});

test('one that could not be made is made by the next request', async (t) => {
  let made = 0;
  const { url } = await openHttp(t, () => {
    if (++made === 1) throw new Error('too many open files');
  });
  const statuses: number[] = [];
  for (let n = 0; n < 3; n++) statuses.push((await fetch(`${url}/xrpc/no.such.method`)).status);
  assert.deepEqual([statuses, made], [[500, 501, 501], 2]);
});
