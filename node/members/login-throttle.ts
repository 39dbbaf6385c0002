/**
 * Wrong logins: counted for each client network and each account, forgotten with time, answered ever later.
 *
 * Promise: a right key is never delayed, whoever guesses at its account. The delay grows with the wrong
 * logins of the network and of the account; a network that goes on is refused for a while, an account never,
 * or a stranger could lock a member out. Memory is bounded: who was quiet longest is forgotten first.
 */
import { clientNetwork } from '../client-network.ts';

export type LoginThrottleOptions = {
  now: () => number;
  /** Wrong logins of a network from which on it is refused, until half of them are forgotten. Default 30. */
  blockAfter?: number;
  /** One wrong login is forgotten in this time. Default 20 s. */
  forgetMs?: number;
  /** The delay behind the third wrong login; it doubles with each further one. Default 250 ms. */
  delayMs?: number;
  /** Default 8 s. */
  maxDelayMs?: number;
  /** Networks, and accounts, that are remembered. Default 10,000 each. */
  maxRemembered?: number;
};

/** Typing errors are not punished. */
const free = 2;

type Tally = { wrong: number; at: number; isBlocked: boolean };

export class LoginThrottle {
  readonly #options: Required<LoginThrottleOptions>;
  readonly #networks = new Map<string, Tally>();
  readonly #accounts = new Map<string, Tally>();

  constructor(options: LoginThrottleOptions) {
    const defaults = { blockAfter: 30, forgetMs: 20_000, delayMs: 250, maxDelayMs: 8_000 };
    this.#options = { ...defaults, maxRemembered: 10_000, ...options };
  }

  /** Is every login of this client refused now, but those that are remembered as right? */
  isBlocked(address: string): boolean {
    const tally = this.#networks.get(clientNetwork(address));
    if (!tally) return false;
    this.#decay(tally);
    return tally.isBlocked;
  }

  /**
   * Counts a wrong login.
   *
   * @param account what stands for the account: a DID, or what the client called itself
   * @returns how long its answer is to be kept back, in ms
   */
  failed(address: string | undefined, account: string): number {
    const ofNetwork = address === undefined ? 0 : this.#add(this.#networks, clientNetwork(address));
    const ofAccount = this.#add(this.#accounts, account);
    const wrong = Math.max(ofNetwork, ofAccount) - free;
    if (wrong <= 0) return 0;
    const { delayMs, maxDelayMs } = this.#options;
    return Math.min(maxDelayMs, delayMs * 2 ** (wrong - 1));
  }

  /** @returns how many are remembered now, this one among them */
  #add(tallies: Map<string, Tally>, key: string): number {
    const { blockAfter, maxRemembered, now } = this.#options;
    const tally = tallies.get(key) ?? { wrong: 0, at: now(), isBlocked: false };
    this.#decay(tally);
    tally.wrong = Math.min(tally.wrong + 1, blockAfter);
    if (tally.wrong > blockAfter - 1) tally.isBlocked = true;
    // Last in the order of the map: the first one is then the quietest.
    tallies.delete(key);
    if (tallies.size >= maxRemembered) tallies.delete(tallies.keys().next().value!);
    tallies.set(key, tally);
    return Math.ceil(tally.wrong);
  }

  #decay(tally: Tally): void {
    const { now, forgetMs, blockAfter } = this.#options;
    const at = now();
    // A clock that steps back forgets nothing.
    tally.wrong = Math.max(0, tally.wrong - Math.max(0, at - tally.at) / forgetMs);
    tally.at = at;
    if (tally.wrong <= blockAfter / 2) tally.isBlocked = false;
  }
}
