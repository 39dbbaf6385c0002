/**
 * Asks DNS and writes down what came back: who was asked, for what, when, and the answer.
 *
 * The notes are the evidence that a member and an operator read, so they are kept as they were seen,
 * only shortened: a stranger's zone must not fill our database.
 */
import type { Answer, MxRecord, Resolver } from '../resolver.ts';

export type Observation = {
  /** `TXT _dmarc.reef.test`, or the URL that was fetched. */
  asked: string;
  /** `host:port` of the DNS server, or the host of the URL. */
  server: string;
  answer: 'found' | 'none' | 'nxdomain' | 'failed';
  /** The records found, or the reason of a failure. */
  records: string[];
  /** Where an alias (CNAME) led. */
  alias?: string;
  /** Unix ms. */
  at: number;
};

const maxRecords = 8;
const maxRecordChars = 1_024;
/** Of one check, over all its observations. */
const maxChars = 16_384;
const maxObservations = 40;

export class Witness {
  readonly observations: Observation[] = [];
  readonly now: () => number;
  readonly #resolver: Resolver;
  #charsLeft = maxChars;

  constructor(resolver: Resolver, now: () => number) {
    this.#resolver = resolver;
    this.now = now;
  }

  async txt(name: string): Promise<Answer<string>> {
    return this.#note(`TXT ${name}`, await this.#resolver.txt(name), (text) => text);
  }

  async mx(name: string): Promise<Answer<MxRecord>> {
    return this.#note(`MX ${name}`, await this.#resolver.mx(name), mxText);
  }

  async a(name: string): Promise<Answer<string>> {
    return this.#note(`A ${name}`, await this.#resolver.a(name), (text) => text);
  }

  async aaaa(name: string): Promise<Answer<string>> {
    return this.#note(`AAAA ${name}`, await this.#resolver.aaaa(name), (text) => text);
  }

  /** IPv4 and IPv6. @returns false only when both answers say so */
  async hasAddress(name: string): Promise<boolean> {
    const answers = await Promise.all([this.a(name), this.aaaa(name)]);
    return answers.some(({ kind }) => kind === 'found' || kind === 'failed');
  }

  /** @param observation `at` is now, unless it was seen before */
  note(observation: Omit<Observation, 'at'> & { at?: number }): void {
    if (this.observations.length >= maxObservations) return;
    const records = observation.records.slice(0, maxRecords).map((text) => this.#shortened(text));
    this.observations.push({ at: this.now(), ...observation, records });
  }

  #shortened(text: string): string {
    const kept = text.slice(0, Math.min(maxRecordChars, this.#charsLeft));
    this.#charsLeft -= kept.length;
    return kept;
  }

  #note<T>(asked: string, answer: Answer<T>, text: (record: T) => string): Answer<T> {
    const { kind, server, canonical, askedAt } = answer;
    const found = kind === 'found' ? answer.records.map(text) : [];
    this.note({
      ...{ asked, server, answer: kind, records: kind === 'failed' ? [answer.reason] : found },
      ...(canonical !== undefined && { alias: canonical }),
      ...(askedAt !== undefined && { at: askedAt }),
    });
    return answer;
  }
}

/** The null MX of RFC 7505 has no name. */
export function mxText({ preference, exchange }: MxRecord): string {
  return `${preference} ${exchange || '.'}`;
}
