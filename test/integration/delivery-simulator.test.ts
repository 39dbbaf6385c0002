/** Simulated recipients, and what an operator does by hand. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { NewMessage } from '../../node/spool/spool.ts';
import {
  destination,
  everythingHere,
  resolverOf,
  scripted,
  type World,
  world,
} from '../unit/delivery-fixtures.ts';
import { mail, minute } from '../unit/spool-fixtures.ts';

const domain = 'simulator.harbor.test';

function simulated(name: string): NewMessage {
  const message = mail({ to: [`${name}@${domain}`] });
  return { ...message, recipients: message.recipients.map((one) => ({ ...one, simulated: true })) };
}

/** A world in which every question to DNS is a fault. */
async function closedWorld(t: TestContext, options: { forwardTo?: string } = {}): Promise<World> {
  const nobody = () => Promise.reject(new Error('something left the queue'));
  return world(t, { resolver: { ...everythingHere, mx: nobody, a: nobody, aaaa: nobody }, ...options });
}

const outcomes: [name: string, states: string[], counts: number][] = [
  ['delivered', ['sent'], 1],
  ['bounced', ['bounced'], 1],
  ['deferred', ['deferred', 'deferred', 'sent'], 3],
  ['complained', ['sent'], 1],
];

for (const [name, states, tries] of outcomes) {
  test(`${name}@ ends as its name says, through the whole queue and without leaving the machine`, async (t) => {
    const here = await closedWorld(t);
    const message = simulated(name);
    await here.spool.accept(message);
    const seen: string[] = [];
    let result = here.results(1);
    here.deliverer.start();
    while (seen.length < states.length) {
      seen.push(...(await result));
      result = here.results(1);
      here.clock.forward(5 * minute);
      here.deliverer.wake();
    }
    assert.deepEqual(seen, states);
    const recipient = await here.recipient(message.queueId);
    assert.deepEqual([recipient.timeline.length, recipient.simulated], [tries, true]);
    const events = await here.spool.eventsAfter('0', 100);
    const types = events.map(({ type }) => type).filter((type) => type === 'complaint_received');
    assert.equal(types.length, name === 'complained' ? 1 : 0);
    assert.ok(events.every(({ detail }) => (detail as { simulated?: boolean }).simulated === true));
  });
}

test('the DSN of a simulated bounce is made, and ends on this machine too', async (t) => {
  const here = await closedWorld(t, { forwardTo: 'owner@owner.test' });
  await here.spool.accept(simulated('bounced'));
  const results = here.results(2);
  here.deliverer.start();
  assert.deepEqual(await results, ['bounced', 'sent']);
  const { messages } = await here.spool.messages({ recipient: 'owner@owner.test', limit: 1 });
  const [{ kind, recipients } = assert.fail('no DSN')] = messages;
  assert.deepEqual([kind, recipients[0]!.simulated, recipients[0]!.state], ['dsn', true, 'sent']);
});

test('what an operator fails bounces with the reason and a DSN, without a try', async (t) => {
  const peer = await scripted(t, {});
  const here = await world(t, { port: peer.port, forwardTo: 'owner@owner.test', resolver: resolverOf({}) });
  const message = mail();
  await here.spool.accept(message);
  await here.spool.fail({ ids: [message.queueId] }, { by: 'ana', reason: 'sent to the wrong list' });
  const result = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await result, ['bounced']);
  assert.equal(peer.connections(), 0);
  const { timeline } = await here.recipient(message.queueId);
  assert.match(timeline[0]!.summary, /sent to the wrong list/);
  const { messages } = await here.spool.messages({ recipient: 'owner@owner.test', limit: 1 });
  assert.equal(messages.length, 1);
});

test('what an operator sends elsewhere goes there, and by its own route again afterwards', async (t) => {
  const here = await world(t, { resolver: resolverOf({ 'dest.test': 'down' }) });
  const { port, received } = await destination(t);
  const message = mail();
  await here.spool.accept(message);
  let result = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await result, ['deferred']);
  await here.spool.reroute({ ids: [message.queueId] }, { by: 'ana', to: `127.0.0.1:${port}` });
  result = here.results(1);
  await here.spool.retryNow({ ids: [message.queueId] }, { by: 'ana' });
  assert.deepEqual(await result, ['sent']);
  assert.equal(received.length, 1);
  assert.equal((await here.recipient(message.queueId)).timeline.at(-1)!.site, '127.0.0.1');
});

for (const to of ['192.0.2.1', '[::ffff:10.0.0.1]:25', 'mx.outside.test']) {
  test(`an operator’s word does not open the way to ${to}`, async (t) => {
    const resolver = resolverOf({ 'mx.outside.test': { a: ['192.0.2.1'] } });
    const here = await world(t, { resolver });
    const message = mail();
    await here.spool.accept(message);
    await here.spool.reroute({ ids: [message.queueId] }, { by: 'ana', to });
    const result = here.results(1);
    here.deliverer.start();
    assert.deepEqual(await result, ['bounced']);
    const { timeline } = await here.recipient(message.queueId);
    assert.deepEqual([timeline[0]!.status, timeline[0]!.recipientInvalid ?? false], ['5.4.4', false]);
  });
}
