/** Who is due next: the answer of a list that is sorted anew each time, at a price without the backlog. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { Bodies } from '../../node/spool/bodies.ts';
import { Claims } from '../../node/spool/claims.ts';
import type { NextState } from '../../node/spool/message.ts';
import { spoolMigrations } from '../../node/spool/schema.ts';
import { Store } from '../../node/spool/store.ts';
import { Fuzz } from '../fuzz/random.ts';
import { cpuMs } from './cpu-time.ts';
import { day, delivered, mail, start, temporaryFolder } from './spool-fixtures.ts';

function queue(folder: string) {
  const db = openDatabase(':memory:', spoolMigrations, { synchronous: 'NORMAL' });
  const store = new Store(db, new Bodies(folder), 30 * day, () => undefined);
  const accept = (to: string[], receivedAt = start): string[] => {
    const message = mail({ to, receivedAt });
    store.commit([{ kind: 'accept', at: receivedAt, message }]);
    return message.recipients.map(({ id }) => id);
  };
  const settle = (recipientId: string, next: NextState): void => {
    const settlement = { recipientId, attempt: delivered(), next };
    assert.deepEqual(store.commit([{ kind: 'settle', at: start, settlement }]), [
      { kind: 'done', value: 'settled' },
    ]);
  };
  return { claims: new Claims(db), accept, settle };
}

type Known = { id: string; domain: string; at: number; claimed: boolean };

const domains = ['a.test', 'b.test', 'c.test', 'd.test'];
const fuzz = new Fuzz('spool-claims');

/** The same questions to a list in memory. */
class Model {
  readonly #known = new Map<string, Known>();

  add(ids: string[], names: string[], at: number): void {
    for (const [index, id] of ids.entries())
      this.#known.set(id, { id, domain: names[index]!, at, claimed: false });
  }

  get(id: string): Known {
    return this.#known.get(id)!;
  }

  end(id: string): void {
    this.#known.delete(id);
  }

  claimed(): Known[] {
    return [...this.#known.values()].filter(({ claimed }) => claimed);
  }

  waiting(except: string[]): Known[] {
    return [...this.#known.values()]
      .filter(({ claimed, domain }) => !claimed && !except.includes(domain))
      .sort((a, b) => a.at - b.at);
  }
}

test('whatever is accepted, claimed, given back, deferred and ended: the longest due come first', (t) => {
  const { claims, accept, settle } = queue(temporaryFolder(t));
  const model = new Model();
  for (let round = fuzz.rounds(600, 100); round > 0; round--) {
    const now = start + fuzz.below(100);
    const except = domains.filter(() => fuzz.below(4) === 0);
    const some = fuzz.pick([...model.claimed(), undefined]);
    switch (fuzz.below(4)) {
      case 0: {
        const names = Array.from({ length: 1 + fuzz.below(3) }, () => fuzz.pick(domains));
        const to = names.map((name, index) => `u${index}@${name}`);
        model.add(accept(to, now), names, now);
        break;
      }
      case 1: {
        const limit = 1 + fuzz.below(5);
        const due = model.waiting(except).filter(({ at }) => at <= now);
        const taken = claims.take(limit, now, except).map(({ recipientId }) => model.get(recipientId));
        // Of those due at the same moment, any may come first.
        assert.deepEqual(
          taken.map(({ at }) => at),
          due.slice(0, limit).map(({ at }) => at),
        );
        assert.ok(taken.every((one) => due.includes(one)) && new Set(taken).size === taken.length);
        for (const one of taken) one.claimed = true;
        break;
      }
      case 2: {
        if (!some) break;
        if (fuzz.below(2) === 0) {
          const at = start + fuzz.below(100);
          settle(some.id, { state: 'deferred', at });
          some.at = at;
        } else {
          settle(some.id, { state: 'sent' });
          model.end(some.id);
        }
        claims.release([some.id]);
        some.claimed = false;
        break;
      }
      default:
        if (!some) break;
        claims.release([some.id]);
        some.claimed = false;
    }
    assert.equal(claims.nextDueAt(except), model.waiting(except)[0]?.at);
  }
});

test('what is asked after each commit costs the same with one queued at a full domain as with thousands', (t) => {
  const costOf = (queued: number): number => {
    const { claims, accept } = queue(temporaryFolder(t));
    for (let left = queued; left > 0; left -= 1000)
      accept(Array.from({ length: Math.min(left, 1000) }, (_, n) => `u${n}@dead.test`));
    claims.take(1, start, []);
    return cpuMs(() => {
      for (let n = 0; n < 300; n++) {
        assert.deepEqual(claims.take(45, start, ['dead.test']), []);
        assert.equal(claims.nextDueAt(['dead.test']), undefined);
      }
    });
  };
  const few = costOf(1);
  const many = costOf(20_000);
  // Looking through the backlog it would be a hundred times as much.
  assert.ok(many < 20 * few + 100, `${few} ms of processor time, then ${many}`);
});
