/** Caps: a token bucket for the hour, a sum for the day, and what is left of both. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import type { Cap } from '../../node/spool/message.ts';
import { spoolMigrations } from '../../node/spool/schema.ts';
import { Spool } from '../../node/spool/spool.ts';
import { Usage } from '../../node/spool/usage.ts';
import { Fuzz } from '../fuzz/random.ts';
import { Clock, day, mail, minute, openSpool, silent, start, temporaryFolder } from './spool-fixtures.ts';

const hour = 60 * minute;
const did = 'did:plc:reef';

function counter(cap: Cap) {
  const db = openDatabase(':memory:', spoolMigrations, { synchronous: 'NORMAL' });
  let usage = new Usage(db);
  return {
    /** @returns when it may be sent, where it was refused */
    send(at: number, recipients = 1): number | undefined {
      const ids = Array.from({ length: recipients }, (_, n) => `m.${n + 1}`);
      const over = usage.exceeded([cap], ids, at);
      if (over) return over.retryAt;
      usage.add([cap], ids, at);
      usage.flush();
      return undefined;
    },
    restart: () => {
      usage = new Usage(db);
    },
    budget: (at: number) => usage.budget([cap], at)[0]!,
  };
}

test('caps are counted in the same commit, over one nothing is stored, and a restart knows them', async (t) => {
  const clock = new Clock();
  const dir = temporaryFolder(t);
  const caps = [
    { scope: did, perHour: 100, perDay: 1_000 },
    { scope: 'domain:reef.test', perHour: 3, perDay: 4 },
  ];
  const spool = await Spool.open({ dir, log: silent, now: clock.now });
  const send = (to: string[]) => spool.accept(mail({ to, caps, receivedAt: clock.at }));
  assert.equal((await send(['a@dest.test', 'b@dest.test'])).kind, 'committed');
  const refused = await send(['a@dest.test', 'b@dest.test']);
  assert.deepEqual(refused, { kind: 'over-cap', cap: caps[1], retryAt: start + 20 * minute });
  assert.equal((await send(['c@dest.test'])).kind, 'committed');
  assert.equal((await send(['d@dest.test'])).kind, 'over-cap');
  await spool.close();

  const reopened = await openSpool(t, { dir, now: clock.now });
  const resend = async () => (await reopened.accept(mail({ caps, receivedAt: clock.at }))).kind;
  assert.equal(await resend(), 'over-cap', 'counts survive a restart');
  clock.forward(-10 * minute);
  assert.equal(await resend(), 'over-cap', 'a clock that steps back gives nothing away');
  clock.forward(30 * minute);
  assert.equal(await resend(), 'committed', 'one has accrued');
  clock.forward(hour);
  assert.equal(await resend(), 'over-cap', 'the day has its own');
  clock.forward(day);
  assert.equal(await resend(), 'committed');
});

test('a burst is what unused time saved up, and retryAt is when it is offered with success', () => {
  const { send } = counter({ scope: 'a', perHour: 5, perDay: 50, burst: 10 });
  for (let n = 0; n < 10; n++) assert.equal(send(start), undefined);
  assert.equal(send(start), start + 12 * minute);
  assert.equal(send(start + 11 * minute), start + 12 * minute);
  assert.equal(send(start + 12 * minute), undefined);
  assert.notEqual(send(start + 12 * minute), undefined);
  assert.equal(send(start + 3 * hour, 10), undefined, 'no more than the burst is saved');
  assert.notEqual(send(start + 3 * hour), undefined);
});

test('50 mails spread over a day, minutes earlier each day, are never refused in the first week', () => {
  const { send } = counter({ scope: 'a', perHour: 5, perDay: 50, burst: 10 });
  for (let d = 0; d < 7; d++) {
    for (let n = 0; n < 50; n++) {
      const at = start + d * (day - 10 * minute) + Math.floor((n * (day - 2 * hour)) / 50);
      assert.equal(send(at), undefined, `day ${d + 1}, mail ${n + 1}`);
    }
  }
});

test('the day is 23 hours, and the time at which it has room is right', () => {
  const { send, budget } = counter({ scope: 'a', perHour: 100, perDay: 10 });
  for (let n = 0; n < 10; n++) assert.equal(send(start + n * minute), undefined);
  assert.deepEqual(budget(start + 9 * minute), {
    scope: 'a',
    hour: { used: 10, left: 99 },
    day: { used: 10, left: 0 },
  });
  const at = send(start + hour, 3)!;
  assert.equal(at, start + 2 * minute + 23 * hour);
  assert.notEqual(send(at - minute, 3), undefined);
  assert.equal(send(at, 3), undefined);
});

test('a cap for one recipient counts that one alone, and simulated recipients count nowhere', async (t) => {
  const spool = await openSpool(t);
  const exempt = { scope: `exempt:${did}:ann@dest.test`, perHour: 1, perDay: 1 };
  const all = { scope: did, perHour: 100, perDay: 100 };
  const send = (simulated: boolean) => {
    const message = mail({ to: ['ann@dest.test', 'bob@dest.test'] });
    message.caps = [{ ...exempt, only: message.recipients[0]!.id }, all];
    for (const one of message.recipients) if (simulated) one.simulated = true;
    return spool.accept(message);
  };
  assert.equal((await send(true)).kind, 'committed');
  assert.equal((await send(false)).kind, 'committed');
  const second = await send(false);
  assert.deepEqual(second.kind === 'used-up' && second.caps.map(({ scope }) => scope), [exempt.scope]);
  const budgets = await spool.budget([exempt, all], start);
  assert.deepEqual(
    budgets.map(({ day: { used, left } }) => [used, left]),
    [
      [1, 0],
      [2, 98],
    ],
  );
});

const fuzz = new Fuzz('spool-usage');

test('whatever is sent whenever: memory and a restart say the same, and no window holds more than its cap', () => {
  for (let round = fuzz.rounds(20, 100); round > 0; round--) {
    const cap = {
      scope: 'a',
      perHour: 1 + fuzz.below(20),
      perDay: 20 + fuzz.below(80),
      burst: 1 + fuzz.below(30),
    };
    const kept = counter(cap);
    const restarted = counter(cap);
    const sent: number[] = [];
    let at = start;
    for (let n = 0; n < 150; n++) {
      at += fuzz.below(30) * minute * (fuzz.below(20) === 0 ? -1 : 1);
      const recipients = 1 + fuzz.below(3);
      restarted.restart();
      const answer = kept.send(at, recipients);
      assert.equal(restarted.send(at, recipients), answer);
      if (answer === undefined) sent.push(...Array.from({ length: recipients }, () => at));
    }
    for (const first of sent) {
      const within = (ms: number) => sent.filter((one) => one >= first && one < first + ms).length;
      assert.ok(within(22 * hour) <= cap.perDay);
      assert.ok(within(hour) <= cap.burst + cap.perHour + 1);
    }
  }
});
