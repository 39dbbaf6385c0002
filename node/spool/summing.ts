/** How old is the mail for each site: added up in steps, a part in each thread. */
import { ageBuckets, type QueueSummary, type SiteSummary } from './selection.ts';
import type { RecipientState } from './states.ts';

const topSites = 100;

export class Summing {
  readonly #sites = new Map<string, SiteSummary>();

  get sites(): SiteSummary[] {
    return [...this.#sites.values()];
  }

  add(site: string, state: RecipientState, receivedAt: number, now: number): void {
    const sum = this.#at(site, receivedAt);
    const bucket = ageBuckets.findIndex((minutes) => now - receivedAt < minutes * 60_000);
    sum.total += 1;
    sum.states[state] = (sum.states[state] ?? 0) + 1;
    sum.ages[bucket === -1 ? ageBuckets.length : bucket]! += 1;
    sum.oldest = Math.min(sum.oldest, receivedAt);
  }

  merge(part: readonly SiteSummary[]): void {
    for (const { site, total, states, ages, oldest } of part) {
      const sum = this.#at(site, oldest);
      sum.total += total;
      for (const [state, n] of Object.entries(states) as [RecipientState, number][])
        sum.states[state] = (sum.states[state] ?? 0) + n;
      for (const [bucket, n] of ages.entries()) sum.ages[bucket]! += n;
      sum.oldest = Math.min(sum.oldest, oldest);
    }
  }

  result({ messages, bytes }: { messages: number; bytes: number }): QueueSummary {
    const sites = this.sites.sort((a, b) => b.total - a.total);
    const total = sites.reduce((sum, site) => sum + site.total, 0);
    return { total, messages, bytes, sites: sites.slice(0, topSites) };
  }

  #at(site: string, oldest: number): SiteSummary {
    let sum = this.#sites.get(site);
    if (!sum) {
      const ages = Array.from({ length: ageBuckets.length + 1 }, () => 0);
      sum = { site, total: 0, states: {}, ages, oldest };
      this.#sites.set(site, sum);
    }
    return sum;
  }
}
