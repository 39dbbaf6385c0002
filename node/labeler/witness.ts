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
  /** Unix ms. */
  at: number;
};

const maxRecords = 8;
const maxRecordChars = 1_024;

export class Witness {
  readonly observations: Observation[] = [];
  readonly #resolver: Resolver;
  readonly #now: () => number;

  constructor(resolver: Resolver, now: () => number) {
    this.#resolver = resolver;
    this.#now = now;
  }

  async txt(name: string): Promise<Answer<string>> {
    return this.#note(`TXT ${name}`, await this.#resolver.txt(name), (text) => text);
  }

  async mx(name: string): Promise<Answer<MxRecord>> {
    const text = ({ preference, exchange }: MxRecord) => `${preference} ${exchange || '.'}`;
    return this.#note(`MX ${name}`, await this.#resolver.mx(name), text);
  }

  /** IPv4 and IPv6. @returns false only when both answers say so */
  async hasAddress(name: string): Promise<boolean> {
    const [a, aaaa] = await Promise.all([this.#resolver.a(name), this.#resolver.aaaa(name)]);
    this.#note(`A ${name}`, a, (text) => text);
    this.#note(`AAAA ${name}`, aaaa, (text) => text);
    return [a, aaaa].some(({ kind }) => kind === 'found' || kind === 'failed');
  }

  note(observation: Omit<Observation, 'at'>): void {
    const records = observation.records.slice(0, maxRecords).map((text) => text.slice(0, maxRecordChars));
    this.observations.push({ ...observation, records, at: this.#now() });
  }

  #note<T>(asked: string, answer: Answer<T>, text: (record: T) => string): Answer<T> {
    const found = answer.kind === 'found' ? answer.records.map(text) : [];
    const records = answer.kind === 'failed' ? [answer.reason] : found;
    this.note({ asked, server: answer.server, answer: answer.kind, records });
    return answer;
  }
}
