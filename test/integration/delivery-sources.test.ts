/** Real sockets from several addresses of ours; signatures that grow old. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { destination, resolverOf, scripted, type World, world } from '../unit/delivery-fixtures.ts';
import { day, mail, minute } from '../unit/spool-fixtures.ts';

const warm = { address: '127.0.0.1', warm: true };
const fresh = { address: '127.0.0.5', warm: false };

async function peerOf(t: Parameters<typeof scripted>[0]): Promise<{ port: number; from: string[] }> {
  const from: string[] = [];
  const { port } = await scripted(t, {
    MAIL: (socket: Socket) => {
      from.push(socket.remoteAddress!);
      socket.write('250 ok\r\n');
    },
  });
  return { port, from };
}

async function sendTo(here: World, count: number): Promise<void> {
  for (let i = 0; i < count; i++)
    await here.spool.accept(mail({ to: [`u${i}@dest.test`], receivedAt: here.clock.at }));
}

test('a new address sends its plan of the day, the rest goes by a warm one', async (t) => {
  const { port, from } = await peerOf(t);
  const here = await world(t, { port, sources: [warm, fresh], sourceWarming: [3, 6] });
  await sendTo(here, 10);
  const results = here.results(10);
  here.deliverer.start();
  assert.deepEqual(new Set(await results), new Set(['sent']));
  assert.deepEqual([from.filter((one) => one === fresh.address).length, from.length], [3, 10]);
});

test('without a warm one the rest waits for the next day, untouched, and a restart does not begin the plan anew', async (t) => {
  const { port, from } = await peerOf(t);
  const options = { port, sources: [fresh], sourceWarming: [3, 6] };
  const here = await world(t, options);
  await sendTo(here, 10);
  const today = here.results(3);
  here.deliverer.start();
  await today;
  await here.deliverer.stop();

  const second = here.again();
  const tomorrow = here.results(6);
  const asked = t.mock.method(here.spool, 'nextDueAt');
  second.start();
  // The plan is used up: it goes to sleep without that site.
  while (!asked.mock.calls.some(({ arguments: [except] }) => except?.exceptSites.includes('dest.test')))
    await new Promise(setImmediate);
  assert.equal(from.length, 3);
  here.clock.forward(day);
  second.wake();
  assert.deepEqual(new Set(await tomorrow), new Set(['sent']));
  assert.deepEqual([from.length, new Set(from)], [9, new Set([fresh.address])]);
});

test('greylisting is met again from the same address, within its window', async (t) => {
  const tries: { from: string; minutes: number }[] = [];
  let now = () => 0;
  const { port } = await scripted(t, {
    RCPT: (socket: Socket) => {
      const minutes = (now() - startedAt) / minute;
      const known = tries.find(({ from }) => from === socket.remoteAddress);
      tries.push({ from: socket.remoteAddress!, minutes });
      // As postgrey: five minutes after the first try from this very address.
      socket.write(known && minutes - known.minutes >= 5 ? '250 ok\r\n' : '450 4.2.0 Greylisted\r\n');
    },
  });
  const addresses = ['127.0.0.1', '127.0.0.6', '127.0.0.7'].map((address) => ({ address, warm: true }));
  const here = await world(t, { port, sources: addresses });
  now = here.clock.now;
  const startedAt = here.clock.at;
  const message = mail();
  await here.spool.accept(message);
  const seen: string[] = [];
  let result = here.results(1);
  here.deliverer.start();
  while (seen.at(-1) !== 'sent') {
    seen.push(...(await result));
    if (seen.at(-1) === 'sent') break;
    result = here.results(1);
    here.clock.at = (await here.recipient(message.queueId)).nextAt!;
    here.deliverer.wake();
  }
  assert.deepEqual(
    tries.map(({ minutes }) => minutes),
    [0, 1, 6],
  );
  assert.equal(new Set(tries.map(({ from }) => from)).size, 1);
  const { timeline } = await here.recipient(message.queueId);
  assert.deepEqual(new Set(timeline.map(({ source }) => source)), new Set([tries[0]!.from]));
});

test('a reply that blames our new address halves its plan at that site', async (t) => {
  let blames = true;
  const { port } = await scripted(t, {
    RCPT: (socket: Socket) => {
      socket.write(
        blames
          ? '550 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org\r\n'
          : '250 ok\r\n',
      );
      blames = false;
    },
  });
  const here = await world(t, {
    port,
    sources: [fresh],
    sourceWarming: [8],
    concurrency: { total: 1, perSite: 1 },
  });
  await sendTo(here, 12);
  const results = here.results(5);
  here.deliverer.start();
  assert.deepEqual((await results).sort(), ['bounced', 'sent', 'sent', 'sent', 'sent']);
  await here.deliverer.stop();
  const { messages } = await here.spool.messages({ state: 'accepted', limit: 20 });
  assert.equal(messages.length, 7);
});

test('an address of the other family is no use, and that is our own failure', async (t) => {
  const resolver = resolverOf({ 'dest.test': { aaaa: ['::1'] } });
  const here = await world(t, { resolver, sources: [warm] });
  const message = mail();
  await here.spool.accept(message);
  const results = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await results, ['deferred']);
  const { attempts, timeline } = await here.recipient(message.queueId);
  assert.equal(attempts, 0);
  assert.match(timeline[0]!.summary, /no address of ours/);
});

test('signatures that are not current are made anew for the try; where that fails it waits, uncounted', async (t) => {
  const { port, received } = await destination(t);
  let works = false;
  const signatures = {
    isCurrent: ({ signedAt }: { signedAt: number }) => signedAt > 0 && here.clock.at - signedAt < day,
    renew: (_claim: unknown, body: Buffer) =>
      works
        ? Promise.resolve(Buffer.from(`DKIM-Signature: new over ${body.length}\r\n`))
        : Promise.reject(new Error('no key')),
  };
  const here: World = await world(t, { port, signatures });
  const message = mail({ signatures: 'DKIM-Signature: old\r\n' });
  await here.spool.accept(message);
  here.clock.forward(2 * day);
  let result = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await result, ['deferred']);
  const { attempts, timeline, nextAt } = await here.recipient(message.queueId);
  assert.deepEqual([attempts, timeline[0]!.summary], [0, 'the message could not be signed anew']);
  works = true;
  result = here.results(1);
  here.clock.at = nextAt!;
  here.deliverer.wake();
  assert.deepEqual(await result, ['sent']);
  assert.match(
    received[0]!.bytes.toString(),
    new RegExp(`^DKIM-Signature: new over ${message.body.length}\r\n`),
  );
  assert.doesNotMatch(received[0]!.bytes.toString(), /old/);

  // A current one goes out as it is.
  result = here.results(1);
  await here.spool.accept(mail({ signatures: 'DKIM-Signature: fresh\r\n', receivedAt: here.clock.at }));
  await result;
  assert.match(received[1]!.bytes.toString(), /^DKIM-Signature: fresh\r\n/);
});
