/** A PDS that sends 50 mails a day from its first day on: the warming caps never refuse it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fuzz } from '../fuzz/random.ts';
import { openWorld, reef } from './submission-world.ts';

const hour = 3_600_000;
const day = 24 * hour;
const chance = new Fuzz('submission-first-week');

const rhythms: [name: string, at: (day: number, n: number) => number][] = [
  ['in even slots', (d, n) => d * day + (n * day) / 50],
  // Anywhere in its slot: two may be moments apart, and a day's last and the next one's first as well.
  ['each anywhere in its slot', (d, n) => d * day + ((n + chance.below(1000) / 1000) * day) / 50],
  // The same daily rhythm, a little earlier each day.
  ['a quarter of an hour earlier each day', (d, n) => hour * 2 + d * (day - hour / 4) + (n * day) / 50],
];
for (const [name, at] of rhythms) {
  test(`50 mails spread over each day of the first week, ${name}, are all taken`, async () => {
    const enrolled = Date.UTC(2026, 10, 20, 9, 30);
    let clock = enrolled;
    const world = await openWorld({
      now: () => clock,
      caps: {
        warmingDays: 14,
        warming: [{ untilDay: 7, perHour: 5, perDay: 50, burst: 10 }],
        tiers: { standard: { perHour: 200, perDay: 2000 } },
      },
    });
    try {
      const take = () =>
        world.intake.take({
          principal: { did: reef, keyId: 'key', defaultCategory: 'transactional' },
          ...{ via: 'smtp', protocol: 'ESMTPSA', mailFrom: 'a@reef.test', smtpUtf8: false },
          recipients: [{ address: 'b@dest.test' }],
          bytes: Buffer.from('From: a@reef.test\r\n\r\nyour link\r\n'),
        });
      for (let d = 0; d < 7; d++) {
        for (let n = 0; n < 50; n++) {
          clock = Math.floor(Math.min(enrolled + at(d, n), enrolled + 7 * day - 1));
          const taken = await take();
          assert.equal(taken.kind, 'accepted', `day ${d + 1}, mail ${n + 1}: ${JSON.stringify(taken)}`);
        }
      }
      // The caps are there all the same: a burst on top is refused.
      const burst = await Promise.all(Array.from({ length: 20 }, take));
      assert.ok(burst.some(({ kind }) => kind === 'refused'));
    } finally {
      await world.close();
    }
  });
}
