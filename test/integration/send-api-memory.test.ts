/** What requests hold in memory while they come and are worked on: of all, and of one member. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ByteBudget } from '../../node/relay/byte-budget.ts';
import { until } from '../until.ts';
import { openApiWorld } from './api-world.ts';
import { orchard, type WorldOptions } from './submission-world.ts';

const mail = { from: 'a@reef.test', to: 'b@dest.test', subject: 'hello', text: 'body' };

/** A budget with room for two requests of 1000 octets, and the API on a port. */
async function openTightApi(t: TestContext, queue?: WorldOptions['queue']) {
  const budget = new ByteBudget(2_500);
  const here = await openApiWorld({ budget, ...(queue && { queue }) });
  const origin = await here.app.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => here.close());
  const body = JSON.stringify({ ...mail, text: 'x'.repeat(900) }).padEnd(1_000);
  const headers = { 'content-type': 'application/json', ...here.login };
  const request = async (o: RequestInit & { duplex?: 'half' } = {}) => {
    const answer = await fetch(`${origin}/v1/send`, { method: 'POST', headers, body, ...o });
    return { status: answer.status, code: ((await answer.json()) as { code?: string }).code };
  };
  return { budget, headers, origin, request };
}

test('what does not fit into memory beside the others is 503 QUEUE_FULL, and fits when they are done', async (t) => {
  const held = heldQueue();
  const { request } = await openTightApi(t, held.queue);
  const first = [request(), request()];
  await until('both are at work', () => held.waiting() === 2);
  assert.deepEqual(await request(), { status: 503, code: 'QUEUE_FULL' });
  held.release();
  for (const { status } of await Promise.all(first)) assert.equal(status, 200);
  assert.equal((await request()).status, 200);
});

test('octets are given back whatever becomes of a request', async (t) => {
  const { budget, headers, origin, request } = await openTightApi(t);
  assert.equal((await request({ body: '{'.padEnd(2_000) })).status, 400);
  assert.equal((await request({ body: JSON.stringify({ ...mail, to: 'x' }) })).status, 400);
  assert.deepEqual(await request({ headers: { ...headers, 'x-atmos-did': 'no' } }), {
    status: 400,
    code: 'INVALID_DID',
  });
  // What is not declared counts as it comes.
  const body = (octets: number) => new Blob(['{'.padEnd(octets)]).stream();
  assert.equal((await request({ body: body(2_000), duplex: 'half' })).status, 400);
  assert.equal((await request({ body: body(2_600), duplex: 'half' })).status, 503);
  // One goes away in the middle of its body.
  const { hostname, port } = new URL(origin);
  const socket = connect(Number(port), hostname);
  const lines = Object.entries({ ...headers, host: 'x', 'content-length': '2500' });
  const head = `POST /v1/send HTTP/1.1\r\n${lines.map((pair) => pair.join(': ')).join('\r\n')}\r\n\r\n`;
  socket.write(`${head}${'{'.padEnd(2_000)}`);
  await until('its octets are held, and no more', () => !fits(budget, 501) && fits(budget, 500));
  socket.destroy();
  await until('all octets are back', () => fits(budget, 2_500));
});

test('what one member holds leaves room for the others, in octets and in requests', async (t) => {
  const held = heldQueue();
  const budget = new ByteBudget(100_000, 2_500);
  const here = await openApiWorld({
    budget,
    queue: held.queue,
  });
  t.after(() => here.close());
  const body = { ...mail, text: 'x'.repeat(1_000) };
  const orchards = { 'x-atmos-did': orchard, authorization: `Bearer ${here.orchardKey}` };
  const small = JSON.stringify({ ...mail, text: '' });
  const own = [1, 2].map(() => here.call('POST', '/v1/send', { body }));
  await until('both are at work', () => held.waiting() === 2);
  assert.equal((await here.call('POST', '/v1/send', { body })).body.code, 'QUEUE_FULL');
  const other = here.call('POST', '/v1/send', { body: { ...body, from: 'a@orchard.test' }, as: orchards });
  await until('the other is at work', () => held.waiting() === 3);
  const many = Array.from({ length: 48 }, () => here.call('POST', '/v1/send', { body: small.slice(0, 1) }));
  for (const { body: answer } of await Promise.all(many)) assert.equal(answer.code, 'INVALID_REQUEST');
  held.release();
  for (const { status } of await Promise.all([...own, other])) assert.equal(status, 200);
  assert.ok(fits(budget, 100_000));
});

test('a member has fifty requests at once', async (t) => {
  const held = heldQueue();
  const here = await openApiWorld({
    queue: held.queue,
  });
  t.after(() => here.close());
  const own = Array.from({ length: 50 }, () => here.call('POST', '/v1/send', { body: mail }));
  await until('all are at work', () => held.waiting() === 50);
  const refused = await here.call('POST', '/v1/send', { body: mail });
  assert.deepEqual([refused.status, refused.body.code], [429, 'TOO_MANY_CONNECTIONS']);
  held.release();
  for (const { status } of await Promise.all(own)) assert.equal(status, 200);
  assert.equal((await here.call('POST', '/v1/send', { body: mail })).status, 200);
});

/** A queue that takes nothing before release(). */
function heldQueue() {
  const held = Promise.withResolvers<void>();
  let waiting = 0;
  const queue: WorldOptions['queue'] = (spool) => ({
    accept: async (message) => {
      waiting += 1;
      await held.promise;
      return spool.accept(message);
    },
  });
  return { queue, waiting: () => waiting, release: () => held.resolve() };
}

function fits(budget: ByteBudget, octets: number): boolean {
  if (!budget.take(octets)) return false;
  budget.release(octets);
  return true;
}
