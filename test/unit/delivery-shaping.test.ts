/** How much a site gets at once, and who waits for whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lane } from '../../node/delivery/shaping.ts';
import { type Run, SiteWork, TurnQueue } from '../../node/delivery/site-work.ts';
import { Slots } from '../../node/delivery/slots.ts';
import { Unreachable } from '../../node/delivery/unreachable.ts';
import type { Claim } from '../../node/spool/spool.ts';

const second = 1_000;

function claimOf(did: string, recipientId = did): Claim {
  return { did, recipientId, size: 1_000 } as Claim;
}

function siteOf(name: string): SiteWork {
  return new SiteWork(name, [undefined], (source) => new Lane(name, source, 20, 100));
}

function fill(slots: Slots, site: SiteWork, did: string, startedAt = 0): Run | undefined {
  const claim = claimOf(did);
  slots.look(startedAt);
  if (!slots.mayBegin(site, claim, 1_000)) return undefined;
  const run = { claim, site, startedAt, bytes: 1_000, hadLane: true };
  slots.take(run);
  return run;
}

test('concurrency grows by one after a full window of successes, up to the most', () => {
  const lane = new Lane('a.test', undefined, 7, 100);
  const limits = Array.from({ length: 30 }, () => {
    lane.succeeded();
    return lane.limit;
  });
  assert.deepEqual([limits[3], limits[4], limits[9], limits[10], limits[29]], [5, 6, 6, 7, 7]);
});

test('a site that asks for less gets half, once for all that were under way', () => {
  const lane = new Lane('a.test', undefined, 20, 100);
  for (let i = 0; i < 200; i++) lane.succeeded();
  assert.equal(lane.limit, 20);
  const before = lane.epoch;
  for (let i = 0; i < 20; i++) lane.slowedDown(before, 0, '421 4.7.0 too many connections');
  assert.deepEqual([lane.limit, lane.suspendedUntil], [10, 0]);
});

test('one that asks again before anything went well is suspended, longer each time, and begins from one', () => {
  const lane = new Lane('a.test', undefined, 20, 100);
  lane.slowedDown(lane.epoch, 0, '421 busy');
  const until: number[] = [];
  let now = 0;
  for (let i = 0; i < 5; i++) {
    lane.slowedDown(lane.epoch, now, '421 busy');
    until.push((lane.suspendedUntil - now) / second);
    assert.equal(lane.hasRoom(now), false);
    now = lane.suspendedUntil;
    assert.equal(lane.limit, 1);
    assert.equal(lane.hasRoom(now), true);
  }
  assert.deepEqual(until, [30, 120, 300, 600, 600]);
  // Ramped back: 1 → 2 → 3, and the next suspension is a short one again.
  lane.succeeded();
  assert.equal(lane.limit, 2);
  lane.succeeded();
  lane.succeeded();
  assert.equal(lane.limit, 3);
  lane.slowedDown(lane.epoch, now, '421 busy');
  lane.slowedDown(lane.epoch, now, '421 busy');
  assert.equal(lane.suspendedUntil - now, 30 * second);
});

test('an operator’s word ends a suspension', () => {
  const lane = new Lane('a.test', '192.0.2.1', 20, 100);
  for (let i = 0; i < 2; i++) lane.slowedDown(lane.epoch, 0, '421 busy');
  assert.deepEqual(lane.view(0), {
    site: 'a.test',
    source: '192.0.2.1',
    connections: 0,
    limit: 1,
    suspendedUntil: 30 * second,
    lastReply: '421 busy',
  });
  lane.resume();
  assert.equal(lane.hasRoom(0), true);
});

test('members take turns, however many each has', () => {
  const queue = new TurnQueue();
  for (let i = 0; i < 100; i++) queue.push(claimOf('big', `big${i}`));
  queue.push(claimOf('small', 'small0'));
  queue.push(claimOf('tiny', 'tiny0'));
  const order = Array.from({ length: 5 }, () => queue.next(() => true)!.recipientId);
  assert.deepEqual(order, ['big0', 'small0', 'tiny0', 'big1', 'big2']);
  assert.equal(
    queue.next(({ did }) => did !== 'big'),
    undefined,
  );
  assert.equal(queue.drain().length, 97);
  assert.equal(queue.size, 0);
});

test('a member alone has two thirds of all places, so that another finds some at once', () => {
  const slots = new Slots({ total: 30, maxBytes: 1e9 });
  let taken = 0;
  while (fill(slots, siteOf(`s${taken}.test`), 'greedy')) taken += 1;
  assert.equal(taken, 20);
  let other = 0;
  while (fill(slots, siteOf(`o${other}.test`), 'other')) other += 1;
  assert.ok(other >= 6, `the other had ${other}`);
  assert.deepEqual(slots.sated().sort(), ['greedy', 'other']);
});

test('sites in trouble share a quarter, and what was begun before takes nothing from the others', () => {
  const slots = new Slots({ total: 40, maxBytes: 1e9 });
  const tarpits = Array.from({ length: 4 }, (_, i) => siteOf(`tarpit${i}.test`));
  let member = 0;
  for (let i = 0; i < 40; i++) assert.ok(fill(slots, tarpits[i % 4]!, `m${member++}`));
  slots.look(9 * second);
  assert.equal(slots.isFull(), true);
  // After ten seconds they are known as slow.
  slots.look(10 * second);
  assert.equal(slots.isFull(), false);
  assert.equal(slots.isTroubleFull(), true);
  assert.equal(fill(slots, tarpits[0]!, `m${member++}`, 10 * second), undefined);
  let good = 0;
  while (fill(slots, siteOf(`good${good}.test`), `m${member++}`, 10 * second)) good += 1;
  assert.equal(good, 30);
});

test('a large message waits for memory, and the largest goes when nothing else is under way', () => {
  const slots = new Slots({ total: 10, maxBytes: 10_000 });
  const site = siteOf('a.test');
  slots.look(0);
  assert.equal(slots.mayBegin(site, claimOf('m'), 50_000), true);
  fill(slots, site, 'm');
  slots.look(0);
  assert.equal(slots.mayBegin(site, claimOf('m'), 9_500), false);
  assert.equal(slots.mayBegin(site, claimOf('m'), 8_000), true);
});

test('what did not answer is remembered shorter than the next wait of the schedule', () => {
  let now = 0;
  const unreachable = new Unreachable(() => now);
  const minutes = [1, 5, 15, 30, 60];
  for (const wait of minutes) {
    assert.equal(unreachable.find('192.0.2.1'), undefined);
    unreachable.add('192.0.2.1', { summary: 'connect ECONNREFUSED', status: '4.4.1' });
    now += 12 * second;
    const found = { summary: 'connect ECONNREFUSED (found 12 s before)', status: '4.4.1' };
    assert.deepEqual(unreachable.find('192.0.2.1'), found);
    now += wait * 60 * second - 12 * second;
  }
  unreachable.remove('192.0.2.1');
  unreachable.add('192.0.2.1', { summary: 'again' });
  now += 30 * second;
  assert.equal(unreachable.find('192.0.2.1'), undefined);
});
