/**
 * DNS answers remembered for as long as they say, so that a message does not cost questions of its own.
 *
 * Promise: nothing is used beyond its TTL, nor longer than an hour; what could not be asked is not
 * remembered; the same question asked while it is open is asked once. Bounded: the entry that was asked
 * longest ago goes first.
 */
import type { Answer, MxRecord, TlsaRecord, TlsaResolver } from '../resolver.ts';

export type RememberedAnswersOptions = {
  resolver: TlsaResolver;
  now: () => number;
  /** Default 20,000. */
  maxEntries?: number;
};

const maxTtlSeconds = 3_600;

type Entry = { answer: Promise<Answer<unknown>>; until: number };

export class RememberedAnswers implements TlsaResolver {
  readonly #resolver: TlsaResolver;
  readonly #now: () => number;
  readonly #maxEntries: number;
  readonly #entries = new Map<string, Entry>();

  constructor({ resolver, now, maxEntries = 20_000 }: RememberedAnswersOptions) {
    this.#resolver = resolver;
    this.#now = now;
    this.#maxEntries = maxEntries;
  }

  get size(): number {
    return this.#entries.size;
  }

  txt = (name: string): Promise<Answer<string>> => this.#ask('TXT', name, (r) => r.txt(name));
  mx = (name: string): Promise<Answer<MxRecord>> => this.#ask('MX', name, (r) => r.mx(name));
  a = (name: string): Promise<Answer<string>> => this.#ask('A', name, (r) => r.a(name));
  aaaa = (name: string): Promise<Answer<string>> => this.#ask('AAAA', name, (r) => r.aaaa(name));
  tlsa = (name: string): Promise<Answer<TlsaRecord>> => this.#ask('TLSA', name, (r) => r.tlsa(name));

  #ask<T>(
    type: string,
    name: string,
    ask: (resolver: TlsaResolver) => Promise<Answer<T>>,
  ): Promise<Answer<T>> {
    const key = `${type} ${name.toLowerCase()}`;
    const known = this.#entries.get(key);
    if (known && isCurrent(known, this.#now())) return known.answer as Promise<Answer<T>>;
    const asked = ask(this.#resolver);
    // Open until it is answered: who asks meanwhile gets the same.
    const entry: Entry = { answer: asked, until: Number.POSITIVE_INFINITY };
    this.#remember(key, entry);
    const forget = () => this.#entries.get(key) === entry && this.#entries.delete(key);
    asked.then((answer) => {
      const { ttlSeconds = 0 } = answer;
      entry.until = this.#now() + Math.min(ttlSeconds, maxTtlSeconds) * 1000;
      if (answer.kind === 'failed' || ttlSeconds <= 0) forget();
    }, forget);
    return asked;
  }

  #remember(key: string, entry: Entry): void {
    this.#entries.delete(key);
    if (this.#entries.size >= this.#maxEntries) this.#entries.delete(this.#entries.keys().next().value!);
    this.#entries.set(key, entry);
  }
}

/** More is left than there ever was where the clock was set back. */
function isCurrent({ until }: Entry, now: number): boolean {
  const leftMs = until - now;
  return leftMs === Number.POSITIVE_INFINITY || (leftMs > 0 && leftMs <= maxTtlSeconds * 1000);
}
