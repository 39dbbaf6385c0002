import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Buckets, newBucketMemory, rateOf } from '../../dnsbl/access/buckets.ts';
import type { AnswerClass, Client } from '../../dnsbl/seams.ts';
import { accessWorld, clientAt, settingsWith } from './dnsbl-access-fixtures.ts';

type World = ReturnType<typeof accessWorld>;

const victim = clientAt('192.0.2.7');
const name = 0x12345678;

/** So many answers of one kind at once. @returns how many of them had which fate */
function flood(
  world: World,
  count: number,
  client: Client,
  answerClass: AnswerClass = 'positive',
  hash = name,
) {
  const fates = { send: 0, slip: 0, drop: 0 };
  for (let n = 0; n < count; n++) fates[world.thread.gate.respond(client, answerClass, hash)] += 1;
  return fates;
}

test('a flood of one name is damped to its rate, and half of the rest is slipped', () => {
  const world = accessWorld();
  assert.deepEqual(flood(world, 1050, victim), { send: 50, slip: 500, drop: 500 });
  world.pass(1000);
  assert.deepEqual(flood(world, 150, victim), { send: 50, slip: 50, drop: 50 });
  assert.equal(world.counted('limitedDrop'), 550);
});

test('all addresses of a client count together, those of its neighbours apart', () => {
  const world = accessWorld();
  assert.equal(flood(world, 50, clientAt('192.0.2.1')).send, 50);
  assert.equal(flood(world, 50, clientAt('192.0.2.254')).send, 0);
  assert.equal(flood(world, 50, clientAt('192.0.3.1')).send, 50);
  assert.equal(flood(world, 50, clientAt('2001:db8:0:100::1')).send, 50);
  assert.equal(flood(world, 50, clientAt('2001:db8:0:1ff::9')).send, 0);
  assert.equal(flood(world, 50, clientAt('2001:db8:0:200::1')).send, 50);
});

test('5,000 different names a second are never limited, misses or not', () => {
  const world = accessWorld();
  const classes: AnswerClass[] = ['nxdomain', 'nxdomain', 'positive', 'nodata'];
  for (let n = 0; n < 20_000; n++) {
    if (n % 5 === 0) world.pass(1);
    const fate = world.thread.gate.respond(victim, classes[n % 4]!, Math.imul(n, 0x9e3779b1));
    assert.equal(fate, 'send', `answer ${n}`);
  }
});

test('a flood with ever new names meets the rate of the client', () => {
  const world = accessWorld();
  let sent = 0;
  for (let n = 0; n < 40_000; n++) {
    if (n % 40 === 0) world.pass(1);
    if (world.thread.gate.respond(victim, 'nxdomain', Math.imul(n, 0x9e3779b1)) === 'send') sent += 1;
  }
  assert.ok(
    sent >= 19_900 && sent <= 20_100,
    `${sent} in the first second: a burst of 10,000 and 10,000 more`,
  );
});

test('errors are counted by client, whatever was asked, and apart from answers', () => {
  const world = accessWorld();
  let sent = 0;
  for (let n = 0; n < 500; n++) sent += flood(world, 1, victim, 'error', n).send;
  assert.equal(sent, 100);
  assert.equal(flood(world, 1, victim).send, 1);
});

test('slip 0 drops all, slip 1 truncates all', () => {
  const fates = (slip: number) =>
    flood(accessWorld({ settings: settingsWith({ limit: { slip } }) }), 60, victim);
  assert.deepEqual(fates(0), { send: 50, slip: 0, drop: 10 });
  assert.deepEqual(fates(1), { send: 50, slip: 10, drop: 0 });
});

test('the exempt are never limited', () => {
  const world = accessWorld({ settings: settingsWith({ limit: { exempt: ['192.0.2.0/28'] } }) });
  assert.equal(flood(world, 500, victim).send, 500);
  assert.equal(flood(world, 500, clientAt('192.0.2.99')).send, 0, 'the rest of the prefix pays for it');
});

test('logging only: all is sent, and counted', () => {
  const world = accessWorld({ settings: settingsWith({ limit: { mode: 'log' } }) });
  assert.equal(flood(world, 500, victim).send, 500);
  assert.equal(world.counted('limitedLog'), 450);
  world.access.replace(settingsWith({ limit: { mode: 'off' } }));
  assert.equal(flood(world, 500, victim).send, 500);
  assert.equal(world.counted('limitedLog'), 450);
  world.access.replace(settingsWith({}));
  assert.equal(flood(world, 500, victim).send, 0, 'what was counted before new settings stays counted');
});

test('all threads count together', () => {
  const world = accessWorld({}, 4);
  let sent = 0;
  for (let n = 0; n < 400; n++) {
    if (world.threads[n % 4]!.gate.respond(victim, 'positive', name) === 'send') sent += 1;
  }
  assert.equal(sent, 50);
});

test('a clock that goes back, or stands still for an hour and more, locks nobody out', () => {
  const world = accessWorld();
  flood(world, 500, victim);
  world.pass(-600_000);
  assert.equal(flood(world, 500, victim).send, 50);
  world.pass(-3_600_000);
  assert.equal(flood(world, 500, victim).send, 50);
  world.pass(2 ** 32 / 1000 / 2);
  assert.equal(flood(world, 500, victim).send, 50);
});

test('a bucket that is in use stays, however many others come', () => {
  const memory = newBucketMemory(1024);
  const buckets = new Buckets(memory);
  const rate = rateOf(50);
  const takeAll = (tag: number) => {
    let taken = 0;
    while (taken < 100 && buckets.take(7, tag, rate, 1000)) taken += 1;
    return taken;
  };
  assert.equal(takeAll(-1), 50);
  for (let tag = 1; tag < 10_000; tag++) assert.equal(buckets.take(7, tag, rate, 1000), true);
  assert.equal(takeAll(-1), 0);
});
