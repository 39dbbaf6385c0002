/**
 * What many domains share is asked once: the SPF record of a provider that a thousand members include.
 *
 * Promise: an answer is remembered no longer than its TTL allows and never longer than five minutes; a
 * failure for five seconds (RFC 9520 §3.2); a question under way is shared. What is kept is bounded in number
 * and size. Each answer says when it came (`askedAt`), so that evidence does not look younger than it is.
 */
import type { Answer, Resolver } from '../resolver.ts';

const maxEntries = 2_000;
/** Of one answer, as characters of JSON. Greater ones are asked again. */
const maxAnswerChars = 8_192;
const maxAgeMs = 300_000;
const failureAgeMs = 5_000;

type Kept = { answer: Answer<unknown>; until: number };

export class DnsMemory implements Resolver {
  readonly #resolver: Resolver;
  readonly #now: () => number;
  /** The oldest stands first. */
  readonly #kept = new Map<string, Kept>();
  readonly #asking = new Map<string, Promise<Answer<unknown>>>();

  constructor(resolver: Resolver, now: () => number) {
    this.#resolver = resolver;
    this.#now = now;
  }

  get size(): number {
    return this.#kept.size;
  }

  txt(name: string) {
    return this.#ask(`TXT ${name}`, () => this.#resolver.txt(name));
  }

  mx(name: string) {
    return this.#ask(`MX ${name}`, () => this.#resolver.mx(name));
  }

  a(name: string) {
    return this.#ask(`A ${name}`, () => this.#resolver.a(name));
  }

  aaaa(name: string) {
    return this.#ask(`AAAA ${name}`, () => this.#resolver.aaaa(name));
  }

  #ask<T>(question: string, ask: () => Promise<Answer<T>>): Promise<Answer<T>> {
    const kept = this.#kept.get(question);
    if (kept && kept.until > this.#now()) return Promise.resolve(kept.answer as Answer<T>);
    const under = this.#asking.get(question);
    if (under) return under as Promise<Answer<T>>;
    const asking = ask()
      .then((answer) => this.#keep(question, { ...answer, askedAt: this.#now() }))
      .finally(() => this.#asking.delete(question));
    this.#asking.set(question, asking);
    return asking;
  }

  #keep<T>(question: string, answer: Answer<T>): Answer<T> {
    this.#kept.delete(question);
    const age = answer.kind === 'failed' ? failureAgeMs : (answer.ttlSeconds ?? 0) * 1_000;
    if (age <= 0 || JSON.stringify(answer).length > maxAnswerChars) return answer;
    this.#kept.set(question, { answer, until: this.#now() + Math.min(age, maxAgeMs) });
    if (this.#kept.size > maxEntries) this.#kept.delete(this.#kept.keys().next().value!);
    return answer;
  }
}

/**
 * The domain's own names are asked anew, so that who mends a record sees it at once; all others may be
 * remembered.
 */
export function askingAnew(domain: string, resolver: Resolver, memory: Resolver): Resolver {
  const isOwn = (name: string) => name === domain || name.endsWith(`.${domain}`);
  const of = (name: string) => (isOwn(name) ? resolver : memory);
  return {
    txt: (name) => of(name).txt(name),
    mx: (name) => of(name).mx(name),
    a: (name) => of(name).a(name),
    aaaa: (name) => of(name).aaaa(name),
  };
}
