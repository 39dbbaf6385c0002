/**
 * Response rate limit: what a forged source address can make us send to its owner.
 *
 * What is counted together, per client (a prefix of addresses):
 *
 * - answers about one name, whatever they say: positive, NODATA or NXDOMAIN (`perName`). A resolver asks
 *   for a name once in a TTL, so even a farm of caches stays far below; a flood of one name is damped.
 * - errors, whatever was asked (`perClientErrors`): they are never cached, and nobody needs many.
 * - all answers (`perClient`), for floods with ever new names. Its default is twice what the largest
 *   resolver asks. Up to it, a flood over many listed names is answered in full: some five times its octets.
 *
 * NXDOMAIN is never pooled by zone, as other servers do: on a list most questions are for names that are
 * not in it, and a large resolver's misses are normal traffic.
 *
 * A limited answer is dropped, but one of `slip` goes out empty with TC, no larger than its question: a
 * real client then comes over TCP, where nothing is limited because nobody can forge an address. A valid
 * cookie proves the same over UDP; the Answerer does not ask us then.
 *
 * Limits: a second's worth passes in a burst. With all places of a set in use, the bucket nearest to full
 * gives way (buckets.ts), so under a flood with many forged sources some begin anew.
 */
import type { AnswerClass, Client } from '../seams.ts';
import { ACCESS, type AccessCounters } from './access-counters.ts';
import { type Buckets, type Rate, rateOf } from './buckets.ts';
import type { Clock } from './clock.ts';
import type { KeyedHash } from './keyed-hash.ts';
import { ClientWords } from './prefix.ts';
import { PrefixTable, type PrefixTableShare } from './prefix-table.ts';
import type { LimitSettings } from './settings.ts';

type Verdict = 'send' | 'slip' | 'drop';

/** Keep errors and names apart, and IPv4 from IPv6. */
const DOMAIN = { 4: 0x11, 6: 0x22 } as const;
const ERRORS = 0x0e;

export type RateLimitOptions = {
  settings: LimitSettings;
  exempt: PrefixTableShare;
  buckets: Buckets;
  hash: KeyedHash;
  clock: Clock;
  counters: AccessCounters;
  /** Called for each limited answer; must be quick. */
  onLimited: (client: Client, answerClass: AnswerClass) => void;
};

export class RateLimit {
  readonly #options: RateLimitOptions;
  readonly #mode: LimitSettings['mode'];
  readonly #words: ClientWords;
  readonly #exempt: PrefixTable;
  readonly #perName: Rate;
  readonly #perClient: Rate;
  readonly #errors: Rate;
  #limited = 0;

  constructor(options: RateLimitOptions) {
    const { settings, exempt } = options;
    this.#options = options;
    this.#mode = settings.mode;
    this.#words = new ClientWords(settings.client);
    this.#exempt = new PrefixTable(exempt);
    this.#perName = rateOf(settings.perName);
    this.#perClient = rateOf(settings.perClient);
    this.#errors = rateOf(settings.perClientErrors);
  }

  /** See Gate.respond. */
  respond(client: Client, answerClass: AnswerClass, nameHash: number): Verdict {
    if (this.#mode === 'off' || this.#mayGo(client, answerClass, nameHash)) return 'send';
    if (this.#exempt.find(client) !== 0) return 'send';
    this.#options.onLimited(client, answerClass);
    return this.#limit();
  }

  #mayGo(client: Client, answerClass: AnswerClass, nameHash: number): boolean {
    const { buckets, hash, clock } = this.#options;
    const words = this.#words;
    words.read(client);
    if (answerClass === 'error') {
      hash.read(DOMAIN[client.family] ^ ERRORS, words.high, words.low, 0);
      return buckets.take(hash.spot, hash.tag, this.#errors, clock.us);
    }
    hash.read(DOMAIN[client.family], words.high, words.low, nameHash);
    return (
      buckets.take(hash.spot, hash.tag, this.#perName, clock.us) &&
      buckets.take(hash.clientSpot, hash.clientTag, this.#perClient, clock.us)
    );
  }

  #limit(): Verdict {
    const { settings, counters } = this.#options;
    if (this.#mode === 'log') {
      counters.access(ACCESS.limitedLog);
      return 'send';
    }
    this.#limited = (this.#limited + 1) | 0;
    const slips = settings.slip > 0 && this.#limited % settings.slip === 0;
    counters.access(slips ? ACCESS.limitedSlip : ACCESS.limitedDrop);
    return slips ? 'slip' : 'drop';
  }
}
