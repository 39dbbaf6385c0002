/** Which of our addresses a message leaves from, and the plan of a new one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Chosen, Sources, type Wanted } from '../../node/delivery/sources.ts';
import { Clock, day, start } from './spool-fixtures.ts';

const warm = { address: '192.0.2.1', warm: true };
const fresh = { address: '192.0.2.2', warm: false };
const warming = [2, 4, 8];
const today = Math.floor(start / day);

function made(sources: readonly { address: string; warm: boolean }[]): { sources: Sources; clock: Clock } {
  const clock = new Clock();
  return { clock, sources: new Sources({ sources, warming, now: clock.now }) };
}

function choose(sources: Sources, wanted: Partial<Wanted> = {}): Chosen {
  const idle = { hasRoom: () => true, isSuspended: () => false };
  return sources.choose({ site: 'mx.test', families: [4], ...idle, ...wanted });
}

/** Sends until the plan is used up, and says how many that were. */
function sendAll(sources: Sources, site = 'mx.test'): number {
  for (let sent = 0; ; sent++) {
    const chosen = choose(sources, { site });
    if (chosen.kind !== 'chosen' || chosen.source !== fresh.address) return sent;
    sources.began(fresh.address, site);
    sources.ended(fresh.address, site, true);
  }
}

test('without addresses of our own the system chooses', () => {
  const { sources } = made([]);
  assert.deepEqual(choose(sources), { kind: 'chosen', source: undefined });
  assert.deepEqual(choose(sources, { hasRoom: () => false }), { kind: 'busy' });
});

test('a new address goes first within its plan, each provider apart; what exceeds it goes by a warm one', () => {
  const { sources, clock } = made([warm, fresh]);
  assert.deepEqual([sendAll(sources), sendAll(sources, 'other.test')], [2, 2]);
  assert.deepEqual(choose(sources), { kind: 'chosen', source: warm.address });
  const days = [1, 2, 3].map(() => {
    clock.forward(day);
    // After the table it is warm, and no plan ends.
    return choose(sources) && clock.at < start + 3 * day ? sendAll(sources) : 0;
  });
  assert.deepEqual(days, [4, 8, 0]);
  sources.began(fresh.address, 'mx.test');
  for (let i = 0; i < 100; i++) sources.ended(fresh.address, 'mx.test', true);
  assert.equal(choose(sources, { hasRoom: (source) => source === fresh.address }).kind, 'chosen');
});

test('without a warm address it waits for the next day, and is not refused', () => {
  const { sources } = made([fresh]);
  assert.equal(sendAll(sources), 2);
  assert.deepEqual(choose(sources), { kind: 'spent', until: (today + 1) * day });
});

test('what is under way counts, and what was not delivered gives its place back', () => {
  const { sources } = made([fresh]);
  sources.began(fresh.address, 'mx.test');
  sources.began(fresh.address, 'mx.test');
  assert.equal(choose(sources).kind, 'spent');
  sources.ended(fresh.address, 'mx.test', false);
  assert.equal(choose(sources).kind, 'chosen');
});

test('a reply that blames our address halves its plan there, and a day without one doubles it', () => {
  const { sources, clock } = made([fresh]);
  clock.at = start;
  sendAll(sources);
  clock.forward(2 * day);
  sources.blamed(fresh.address, 'mx.test');
  assert.deepEqual([sendAll(sources), sendAll(sources, 'other.test')], [4, 8]);
  clock.forward(day);
  assert.equal(sendAll(sources), 4, 'past the table the halved last figure');
  clock.forward(day);
  assert.equal(choose(sources).kind, 'chosen');
});

test('never less than one a day', () => {
  const { sources } = made([fresh]);
  for (let i = 0; i < 10; i++) sources.blamed(fresh.address, 'mx.test');
  assert.equal(sendAll(sources), 1);
});

test('after a restart the plan goes on where it was', () => {
  const { sources } = made([warm, fresh]);
  sources.recover([
    { source: fresh.address, firstAt: start - day, provider: 'mx.test', day: today, sent: 3 },
    { source: fresh.address, firstAt: start - day, provider: 'mx.test', day: today - 1, sent: 2 },
  ]);
  assert.equal(sendAll(sources), 1);
});

test('a second try goes from the address of the first, as greylisting wants it', () => {
  const { sources } = made([warm, fresh]);
  assert.deepEqual(choose(sources, { last: warm.address }), { kind: 'chosen', source: warm.address });
  assert.deepEqual(choose(sources), { kind: 'chosen', source: fresh.address });
});

test('a second try waits for the address of the first while that is busy, and not while it is to stay away', () => {
  const { sources } = made([warm, fresh]);
  const hasRoom = (source: string | undefined) => source !== warm.address;
  const waits = { kind: 'last-busy', source: warm.address };
  assert.deepEqual(choose(sources, { last: warm.address, hasRoom }), waits);
  const isSuspended = (source: string | undefined) => source === warm.address;
  const other = { kind: 'chosen', source: fresh.address };
  assert.deepEqual(choose(sources, { last: warm.address, hasRoom, isSuspended }), other);
});

test('IPv4 is spoken to from IPv4, and IPv6 from IPv6', () => {
  const six = { address: '2001:db8::1', warm: true };
  const { sources } = made([warm, six]);
  assert.deepEqual(choose(sources, { families: [6, 4] }), { kind: 'chosen', source: six.address });
  assert.deepEqual(choose(sources, { families: [4] }), { kind: 'chosen', source: warm.address });
  assert.deepEqual(choose(made([warm]).sources, { families: [6] }), { kind: 'no-family' });
});
