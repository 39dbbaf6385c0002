/**
 * Which of our addresses a message leaves from, and how much a new address may send yet.
 *
 * A new address has a plan for each provider (= MX site): so many messages on its first day, more on the
 * next, by a table; after the table it is warm. Within its plan it goes first, since only what it sends
 * makes it known. What exceeds the plan goes by a warm address, and without one it waits for the next day:
 * it is never refused. A reply that blames our address halves the plan there; a day without one doubles
 * it again. A message that was tried before goes from the same address, as greylisting wants it, and waits
 * while that is busy with the site; only where the site asked it to stay away, another takes its place.
 *
 * Days are UTC. What was sent is recovered from the spool; halvings are not, and count from the next reply.
 */
import { isIPv6 } from 'node:net';
import type { SourceUse } from '../spool/spool.ts';

export type Source = {
  address: string;
  /** Known to the world already: without a plan. */
  warm: boolean;
};

export type SourcesOptions = {
  /** Empty: the system chooses the address, which counts as warm. */
  sources: readonly Source[];
  /** Messages to one provider on the first, second, … day. */
  warming: readonly number[];
  now: () => number;
};

export type Family = 4 | 6;

export type Wanted = {
  site: string;
  /** Of the destination's addresses, the preferred one first. */
  families: readonly Family[];
  /** The address of the try before. */
  last?: string | undefined;
  /** The lane from this address has room now. */
  hasRoom: (source: string | undefined) => boolean;
  /** The site asked this address to stay away for a while. */
  isSuspended: (source: string | undefined) => boolean;
};

export type Chosen =
  | { kind: 'chosen'; source: string | undefined }
  /** All have their hands full with that site; something ends soon. */
  | { kind: 'busy' }
  /** The address of the try before has: this message waits, others need not. */
  | { kind: 'last-busy'; source: string }
  /** Nothing of this day's plan is left. */
  | { kind: 'spent'; until: number }
  /** None of our addresses speaks the destination's protocol family. */
  | { kind: 'no-family' };

/** At one provider, of a new address. */
type Plan = { day: number; sent: number; underWay: number; halvings: number; halvedOn: number };

const dayMs = 24 * 60 * 60_000;
const maxHalvings = 6;
const maxPlans = 50_000;
const theSystems: readonly (string | undefined)[] = [undefined];

export class Sources {
  readonly #options: SourcesOptions;
  readonly #known: ReadonlyMap<string, Source>;
  /** Day of the first use. */
  readonly #firstDays = new Map<string, number>();
  readonly #plans = new Map<string, Plan>();

  constructor(options: SourcesOptions) {
    this.#options = options;
    this.#known = new Map(options.sources.map((source) => [source.address, source]));
  }

  /** What the spool remembers, once at the start. */
  recover(uses: readonly SourceUse[]): void {
    const today = this.#today();
    for (const { source, firstAt, provider, day, sent } of uses) {
      const firstDay = Math.floor(firstAt / dayMs);
      this.#firstDays.set(source, Math.min(firstDay, this.#firstDays.get(source) ?? firstDay));
      if (day === today) this.#plan(source, provider).sent += sent;
    }
  }

  choose({ site, families, last, hasRoom, isSuspended }: Wanted): Chosen {
    const { sources } = this.#options;
    if (sources.length === 0) return hasRoom(undefined) ? { kind: 'chosen', source: undefined } : busy;
    const usable = sources.filter(({ address }) => families.includes(familyOf(address)));
    if (usable.length === 0) return { kind: 'no-family' };
    const within = usable.filter((source) => this.#hasLeft(source, site));
    if (within.length === 0) return { kind: 'spent', until: (this.#today() + 1) * dayMs };
    const order = (source: Source) =>
      (source.address === last ? 0 : 4) +
      2 * families.indexOf(familyOf(source.address)) +
      (this.#isWarm(source) ? 1 : 0);
    const free = within.filter(({ address }) => hasRoom(address));
    if (free.length === 0) return busy;
    const before = within.find(({ address }) => address === last);
    if (before && !free.includes(before) && !isSuspended(last))
      return { kind: 'last-busy', source: before.address };
    const best = free.reduce((a, b) => (order(b) < order(a) ? b : a));
    return { kind: 'chosen', source: best.address };
  }

  /** Addresses from which a site may be spoken to at all. */
  addresses(): readonly (string | undefined)[] {
    const { sources } = this.#options;
    return sources.length === 0 ? theSystems : sources.map(({ address }) => address);
  }

  began(source: string | undefined, site: string): void {
    if (!this.#hasPlan(source)) return;
    if (!this.#firstDays.has(source)) this.#firstDays.set(source, this.#today());
    this.#plan(source, site).underWay += 1;
  }

  ended(source: string | undefined, site: string, delivered: boolean): void {
    if (!this.#hasPlan(source)) return;
    const plan = this.#plan(source, site);
    plan.underWay = Math.max(0, plan.underWay - 1);
    if (delivered) plan.sent += 1;
  }

  /** The provider blamed our address. */
  blamed(source: string | undefined, site: string): void {
    if (!this.#hasPlan(source)) return;
    const plan = this.#plan(source, site);
    plan.halvings = Math.min(maxHalvings, plan.halvings + 1);
    plan.halvedOn = this.#today();
  }

  #hasPlan(source: string | undefined): source is string {
    return source !== undefined && this.#known.get(source)?.warm === false;
  }

  #isWarm({ address, warm }: Source): boolean {
    return warm || this.#age(address) >= this.#options.warming.length;
  }

  #age(address: string): number {
    return Math.max(0, this.#today() - (this.#firstDays.get(address) ?? this.#today()));
  }

  #hasLeft(source: Source, site: string): boolean {
    if (source.warm) return true;
    const plan = this.#plan(source.address, site);
    // Past the table only a provider that blames us is held to a figure: the table's last, halved.
    if (this.#isWarm(source) && plan.halvings === 0) return true;
    const { warming } = this.#options;
    const full = warming[Math.min(this.#age(source.address), warming.length - 1)] ?? 0;
    return plan.sent + plan.underWay < Math.max(1, Math.floor(full / 2 ** plan.halvings));
  }

  #plan(source: string, site: string): Plan {
    const key = `${source} ${site}`;
    const today = this.#today();
    const plan = this.#plans.get(key) ?? { day: today, sent: 0, underWay: 0, halvings: 0, halvedOn: today };
    if (plan.day !== today) {
      const cleanDays = today - 1 - Math.max(plan.halvedOn, plan.day - 1);
      plan.halvings = Math.max(0, plan.halvings - Math.max(0, cleanDays));
      plan.day = today;
      plan.sent = 0;
    }
    if (!this.#plans.has(key)) this.#remember(key, plan);
    return plan;
  }

  #remember(key: string, plan: Plan): void {
    if (this.#plans.size >= maxPlans) this.#forgetIdle();
    this.#plans.set(key, plan);
  }

  /** Those of other days say nothing any more but for a halving; if that is not enough, the oldest go. */
  #forgetIdle(): void {
    const today = this.#today();
    for (const [key, { day, underWay }] of this.#plans)
      if (underWay === 0 && (day !== today || this.#plans.size >= maxPlans)) this.#plans.delete(key);
  }

  #today(): number {
    return Math.floor(this.#options.now() / dayMs);
  }
}

const busy: Chosen = { kind: 'busy' };

export function familyOf(address: string): Family {
  return isIPv6(address) ? 6 : 4;
}
