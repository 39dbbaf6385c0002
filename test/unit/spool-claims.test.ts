/** Who is due next: compared with a list in memory, whatever happens, and at a price without the backlog. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ActStep } from '../../node/spool/protocol.ts';
import { recipientStates } from '../../node/spool/states.ts';
import { Fuzz } from '../fuzz/random.ts';
import { cpuMs } from './cpu-time.ts';
import { minute, start, storeInMemory } from './spool-fixtures.ts';

const open = { exceptSites: [], exceptMembers: [] };

test('one mail does not wait behind another member’s ten thousand for the same site', (t) => {
  const { claims, accept } = storeInMemory(t);
  for (let n = 0; n < 10; n++) accept({ did: 'big', to: addresses(1000, 'site.test') });
  const [small] = accept({ did: 'small', to: ['one@site.test'], receivedAt: start + 5 });
  const first = claims.take({ limit: 2, now: start + 10, ...open });
  assert.ok(first.some(({ recipientId }) => recipientId === small));
  const [late] = accept({ did: 'late', to: ['two@site.test'], receivedAt: start + 20 });
  const taken = [0, 1].flatMap((n) => claims.take({ limit: 1, now: start + 20 + n, ...open }));
  assert.ok(taken.some(({ recipientId }) => recipientId === late));
});

test('within a member’s mail for a site the order is that of acceptance, past what is kept in memory', (t) => {
  const { claims, accept } = storeInMemory(t);
  const accepted = Array.from({ length: 5 }, (_, n) =>
    accept({ to: addresses(20, 'site.test'), receivedAt: start + n }),
  ).flat();
  const taken: string[] = [];
  for (let limit = 1; taken.length < 100; limit++)
    taken.push(...claims.take({ limit, now: start + 10, ...open }).map(({ recipientId }) => recipientId));
  assert.deepEqual(taken, accepted);
});

test('a site without room and a member without room are passed over, alone and together', (t) => {
  const { claims, accept } = storeInMemory(t);
  for (const did of ['a', 'b']) for (const site of ['x.test', 'y.test']) accept({ did, to: [`u@${site}`] });
  const next = (exceptSites: string[], exceptMembers: string[]) => {
    const taken = claims.take({ limit: 10, now: start, exceptSites, exceptMembers });
    claims.release(taken.map(({ recipientId }) => recipientId));
    assert.equal(claims.nextDueAt({ exceptSites, exceptMembers }), taken.length > 0 ? start : undefined);
    return taken.map(({ did, site }) => `${did} ${site}`).sort();
  };
  assert.deepEqual(next(['x.test'], []), ['a y.test', 'b y.test']);
  assert.deepEqual(next([], ['a']), ['b x.test', 'b y.test']);
  assert.deepEqual(next(['x.test'], ['a']), ['b y.test']);
  assert.deepEqual(next(['x.test', 'y.test'], []), []);
  assert.deepEqual(next([], ['a', 'b']), []);
  assert.deepEqual(next([], []).length, 4);
});

type Known = {
  id: string;
  did: string;
  domain: string;
  at: number;
  state: string;
  claimed: boolean;
  failed: boolean;
  cancels: boolean;
  number: number;
};

const domains = ['a.test', 'b.test', 'c.test', 'd.test'];
const dids = ['did:plc:a', 'did:plc:b', 'did:plc:c'];
const fuzz = new Fuzz('spool-claims');

/** The same acts on a list, and on the store. */
class World {
  readonly #sites = new Map<string, string>();
  readonly known: Known[] = [];
  readonly store: ReturnType<typeof storeInMemory>;
  #number = 0;

  constructor(t: TestContext) {
    this.store = storeInMemory(t);
  }

  siteOf({ domain }: { domain: string }): string {
    return this.#sites.get(domain) ?? domain;
  }

  accept(at: number): void {
    const names = Array.from({ length: 1 + fuzz.below(3) }, () => fuzz.pick(domains));
    const did = fuzz.pick(dids);
    const later = fuzz.below(4) === 0 ? { sendAt: at + 1 + fuzz.below(50) } : {};
    const ids = this.store.accept(
      { did, to: names.map((n, i) => `u${i}@${n}`), receivedAt: at, ...later },
      at,
    );
    for (const [index, id] of ids.entries()) {
      const state = later.sendAt ? 'scheduled' : 'accepted';
      const flags = { claimed: false, failed: false, cancels: false, number: ++this.#number };
      this.known.push({ id, did, domain: names[index]!, at: later.sendAt ?? at, state, ...flags });
    }
  }

  waiting(sites: string[], members: string[]): Known[] {
    return this.known
      .filter((one) => !one.claimed && one.state !== 'held' && !one.cancels)
      .filter((one) => !sites.includes(this.siteOf(one)) && !members.includes(one.did))
      .sort((a, b) => a.at - b.at || a.number - b.number);
  }

  take(now: number, limit: number, exceptSites: string[], exceptMembers: string[]): void {
    const due = this.waiting(exceptSites, exceptMembers).filter(({ at }) => at <= now);
    const claims = this.store.claims.take({ limit, now, exceptSites, exceptMembers });
    const taken = claims.map(({ recipientId }) => this.known.find(({ id }) => id === recipientId)!);
    if (taken.length !== Math.min(limit, due.length))
      console.log({
        now,
        limit,
        exceptSites,
        exceptMembers,
        due,
        taken,
        db: this.store.db.prepare('select * from recipient where next_at is not null').all(),
      });
    assert.equal(taken.length, Math.min(limit, due.length));
    const laneOf = (one: Known) => `${one.did} ${this.siteOf(one)}`;
    const lanes = Map.groupBy(due, laneOf);
    const turns = Map.groupBy(taken, laneOf);
    const counts = [...lanes].map(([lane, all]) => ({ got: turns.get(lane)?.length ?? 0, of: all.length }));
    const mostLeft = Math.min(...counts.filter(({ got, of }) => got < of).map(({ got }) => got));
    for (const { got } of counts)
      assert.ok(got <= mostLeft + 1, 'one lane had two turns before another had one');
    for (const [lane, list] of turns) assert.deepEqual(list, lanes.get(lane)!.slice(0, list.length));
    for (const [index, one] of taken.entries()) {
      assert.equal(claims[index]!.failReason !== undefined, one.failed);
      one.claimed = true;
    }
  }

  land(one: Known, now: number): void {
    this.#drop(one, fuzz.below(2) === 0);
    if (this.known.includes(one)) {
      const at = now + fuzz.below(100) - 10;
      this.store.settle(one.id, { state: 'deferred', at }, now);
      this.#put(one, one.failed ? now : at);
    } else if (one.cancels) this.store.settle(one.id, { state: 'deferred', at: now }, now);
    else this.store.settle(one.id, { state: 'sent' }, now);
    one.claimed = false;
  }

  giveBack(one: Known, now: number): void {
    if (this.store.claims.release([one.id])) this.store.finishCancelled(now);
    if (one.cancels) this.#drop(one, true);
    one.claimed = false;
  }

  act(act: ActStep['act'], one: Known, now: number): void {
    this.store.act({ selection: { ids: [one.id] }, act, by: 'ops', reason: 'why' }, now);
    if (one.cancels) return;
    if (act === 'held' && one.state !== 'held') this.#hold(one);
    if (act === 'released' && one.state === 'held') this.#unhold(one);
    if (act === 'retry' && !one.claimed && ['accepted', 'deferred'].includes(one.state) && one.at > now)
      one.at = now;
    if (act === 'failed' && !one.failed) Object.assign(one, { failed: true, state: 'deferred', at: now });
    if (act === 'cancelled' && one.claimed) one.cancels = true;
    else if (act === 'cancelled') this.#drop(one, true);
  }

  assign(now: number): void {
    const domain = fuzz.pick(domains);
    const site = fuzz.pick(['mx.one', 'mx.two', domain]);
    this.#sites.set(domain, site);
    // In steps, since many may be in flight.
    let from: unknown;
    do
      from = this.store.write({
        call: 'assignSite',
        at: now,
        args: [domain, site, from as string | undefined],
      });
    while (from !== undefined);
  }

  readonly #before = new Map<Known, string>();

  #hold(one: Known): void {
    this.#before.set(one, one.state);
    one.state = 'held';
  }

  #unhold(one: Known): void {
    one.state = this.#before.get(one)!;
  }

  #put(one: Known, at: number): void {
    one.at = at;
    if (one.state === 'held') this.#before.set(one, 'deferred');
    else one.state = 'deferred';
  }

  #drop(one: Known, ends: boolean): void {
    if (ends || one.cancels) this.known.splice(this.known.indexOf(one), 1);
  }
}

test('whatever is accepted, tried, put off, held, cancelled and moved: what is due comes, in turn and in order', (t) => {
  const world = new World(t);
  const acts = ['held', 'released', 'retry', 'failed', 'cancelled', 'rerouted'] as const;
  let [now, latest] = [start, start];
  for (let round = fuzz.rounds(1_500, 30); round > 0; round--) {
    // Mostly forward.
    now += fuzz.below(40) === 0 ? -fuzz.below(30) : fuzz.below(3);
    latest = Math.max(latest, now);
    const some = <T>(of: T[]) => of.filter(() => fuzz.below(5) === 0);
    const [sites, members] = [some([...domains, 'mx.one', 'mx.two']), some(dids)];
    const claimed = world.known.filter((one) => one.claimed);
    const any = world.known.length > 0 ? fuzz.pick(world.known) : undefined;
    const what = fuzz.below(12);
    if (what < 2) world.accept(now);
    else if (what < 5) world.take(now, 1 + fuzz.below(6), sites, members);
    else if (what < 7 && claimed.length > 0) world.land(fuzz.pick(claimed), now);
    else if (what === 7 && claimed.length > 0) world.giveBack(fuzz.pick(claimed), now);
    else if (what < 10 && any) world.act(fuzz.pick(acts), any, now);
    else if (what === 10) world.assign(now);
    else if (fuzz.below(20) === 0) world.store.claims.load();
    const first = world.waiting(sites, members)[0]?.at;
    const said = world.store.claims.nextDueAt({ exceptSites: sites, exceptMembers: members });
    assert.equal(said === undefined, first === undefined);
    // A lane that was served has its next turn then, or when its next is due.
    if (first !== undefined) assert.ok(said! >= first && said! <= Math.max(first, latest));
  }
  const states = new Set(world.known.map(({ state }) => state));
  for (const state of states) assert.ok((recipientStates as readonly string[]).includes(state));
});

test('what is asked after each commit costs the same with one queued as with thousands, blocked or not', (t) => {
  const costOf = (queued: number, domainOf: (n: number) => string): number => {
    const { claims, accept } = storeInMemory(t);
    for (let left = queued; left > 0; left -= 1000)
      accept({
        did: 'big',
        to: Array.from({ length: Math.min(left, 1000) }, (_, n) => `u@${domainOf(left + n)}`),
      });
    const blocked = { exceptSites: ['dead.test'], exceptMembers: ['big'] };
    claims.take({ limit: 1, now: start, ...open });
    claims.nextDueAt(blocked);
    return cpuMs(() => {
      for (let n = 0; n < 300; n++) {
        assert.deepEqual(claims.take({ limit: 45, now: start, ...blocked }), []);
        assert.equal(claims.nextDueAt(blocked), undefined);
        const [one] = claims.take({ limit: 1, now: start, ...open });
        if (one) claims.release([one.recipientId]);
      }
    });
  };
  for (const domainOf of [() => 'dead.test', (n: number) => `d${n}.test`]) {
    const few = costOf(1, domainOf);
    const many = costOf(20_000, domainOf);
    // Looking through the backlog it would be a hundred times as much.
    assert.ok(many < 10 * few + 100, `${few} ms of processor time, then ${many}`);
  }
});

test('a recipient that is put off again and again is due at its time, in any order of times', (t) => {
  const { claims, accept, settle } = storeInMemory(t);
  const ids = accept({ to: addresses(40, 'site.test') });
  claims.take({ limit: 40, now: start, ...open });
  for (const [n, id] of ids.entries()) settle(id, { state: 'deferred', at: start + ((n * 7) % 40) * minute });
  for (let n = 0; n < 40; n++) {
    const at = start + n * minute;
    assert.equal(claims.nextDueAt(open), at);
    const [claim, ...others] = claims.take({ limit: 5, now: at, ...open });
    assert.deepEqual([claim!.recipientId, others], [ids[(n * 23) % 40], []]);
    settle(claim!.recipientId, { state: 'sent' });
  }
  assert.equal(claims.nextDueAt(open), undefined);
});

function addresses(count: number, domain: string): string[] {
  return Array.from({ length: count }, (_, n) => `u${n}@${domain}`);
}
