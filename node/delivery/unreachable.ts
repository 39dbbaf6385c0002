/**
 * Addresses that did not answer a moment ago.
 *
 * A message that comes due meanwhile hears at once what the one before it found out, and its try counts
 * like that one's: thousands of messages to a dead host cost it one connection now and then, and cost
 * nobody else a place. The memory is shorter than the waits of the schedule, so every message's retry is
 * followed by a real connection.
 */

/** By how often in a row. */
const forgetAfterMs = [30_000, 120_000, 300_000] as const;
const maxEntries = 10_000;
/** A clock that goes back by less is a correction that nobody notices. */
const backwardsMs = 60_000;

export type Finding = { summary: string; status?: string };

type Entry = Finding & { until: number; at: number; times: number };

export class Unreachable {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** What was found a moment ago; undefined when it is worth a connection. */
  find(place: string): Finding | undefined {
    if (this.#entries.size === 0) return undefined;
    const entry = this.#entries.get(place);
    const now = this.#now();
    if (!entry || entry.until <= now) return undefined;
    const { summary, status, at } = entry;
    // The clock was set back.
    if (at - now > backwardsMs) return undefined;
    const ago = Math.max(0, Math.round((now - at) / 1000));
    return { summary: `${summary} (found ${ago} s before)`, ...(status && { status }) };
  }

  add(place: string, { summary, status }: Finding): void {
    const times = this.#entries.get(place)?.times ?? 0;
    this.#entries.delete(place);
    if (this.#entries.size >= maxEntries) this.#entries.delete(this.#entries.keys().next().value!);
    const at = this.#now();
    const until = at + forgetAfterMs[Math.min(times, forgetAfterMs.length - 1)]!;
    this.#entries.set(place, { until, at, times: times + 1, summary, ...(status && { status }) });
  }

  /** It answers. */
  remove(place: string): void {
    if (this.#entries.size > 0) this.#entries.delete(place);
  }

  clear(): void {
    this.#entries.clear();
  }
}
