/**
 * DNS cookies: what a client gets that proves, when it comes back, that its address is not forged.
 *
 * RFC 7873 with the interoperable server cookie of RFC 9018: version 1, a time stamp, and SipHash-2-4 of
 * the client's cookie, those two and its address. Nothing is remembered for a client, so all servers and
 * threads with the same secret know each other's cookies. Allocates nothing.
 *
 * A cookie is good for an hour, made anew after half of it, and may be five minutes ahead of our clock.
 */
import { type Client, COOKIE_OCTETS, type Cookies } from '../seams.ts';
import { ACCESS, type AccessCounters } from './access-counters.ts';
import type { Clock } from './clock.ts';
import { word } from './prefix.ts';
import { SipHash } from './siphash.ts';

const VERSION = 1;
const CLIENT_COOKIE_OCTETS = 8;
const HASHED_OPTION_OCTETS = 16;

const MAX_AGE_SECONDS = 3600;
const RENEW_SECONDS = 1800;
const MAX_AHEAD_SECONDS = 300;

/** What a cookie option is worth; each includes the one before. */
const WORTH = { none: 0, valid: 1, fresh: 2 } as const;

export class ServerCookies implements Cookies {
  areRequired = false;
  readonly #clock: Clock;
  readonly #counters: AccessCounters;
  /** The first makes cookies; all know theirs. */
  #secrets: readonly SipHash[] = [];
  /** What was hashed: 16 octets of the option, then the address. */
  readonly #input = new Uint8Array(HASHED_OPTION_OCTETS + 16);
  /** The last option judged, so that it is hashed once for isValid() and answerFor() together. */
  readonly #judged = new Uint8Array(COOKIE_OCTETS + 16);
  #judgedOctets = 0;
  #judgedSeconds = 0;
  #worth: number = WORTH.none;

  /** @param secrets 16 octets each, 1 to 4 of them */
  constructor(secrets: readonly Uint8Array[], clock: Clock, counters: AccessCounters) {
    this.#clock = clock;
    this.#counters = counters;
    this.replace(secrets, false);
  }

  /** @param areRequired see Cookies */
  replace(secrets: readonly Uint8Array[], areRequired: boolean): void {
    this.areRequired = areRequired;
    this.#secrets = secrets.map((secret) => new SipHash(secret));
    this.#judgedOctets = 0;
  }

  isValid(client: Client, octets: Uint8Array, at: number, length: number): boolean {
    return this.#worthOf(client, octets, at, length) !== WORTH.none;
  }

  answerFor(
    client: Client,
    octets: Uint8Array,
    at: number,
    length: number,
    out: Uint8Array,
    outAt: number,
  ): number {
    const worth = this.#worthOf(client, octets, at, length);
    this.#counters.access(
      worth !== WORTH.none
        ? ACCESS.cookieValid
        : length > CLIENT_COOKIE_OCTETS
          ? ACCESS.cookieInvalid
          : ACCESS.cookieNew,
    );
    // RFC 9018 §4.3: a fresh one need not change.
    const kept = worth === WORTH.fresh ? COOKIE_OCTETS : CLIENT_COOKIE_OCTETS;
    for (let index = 0; index < kept; index++) out[outAt + index] = octets[at + index]!;
    if (worth !== WORTH.fresh) this.#make(client, out, outAt);
    return COOKIE_OCTETS;
  }

  #worthOf(client: Client, octets: Uint8Array, at: number, length: number): number {
    if (length !== COOKIE_OCTETS || octets[at + CLIENT_COOKIE_OCTETS] !== VERSION) return WORTH.none;
    if (this.#isJudged(client, octets, at)) return this.#worth;
    this.#worth = this.#judge(client, octets, at);
    this.#remember(client, octets, at);
    return this.#worth;
  }

  #judge(client: Client, octets: Uint8Array, at: number): number {
    // RFC 9018 §4.3: serial arithmetic, so the year 2106 does no harm.
    const age = (this.#clock.seconds - word(octets, at + 12)) | 0;
    if (age > MAX_AGE_SECONDS || age < -MAX_AHEAD_SECONDS) return WORTH.none;
    const inputOctets = this.#load(client, octets, at);
    const low = littleEndian(octets, at + HASHED_OPTION_OCTETS);
    const high = littleEndian(octets, at + HASHED_OPTION_OCTETS + 4);
    for (let index = 0; index < this.#secrets.length; index++) {
      const secret = this.#secrets[index]!;
      secret.read(this.#input, 0, inputOctets);
      if (((secret.low ^ low) | (secret.high ^ high)) !== 0) continue;
      return index === 0 && age < RENEW_SECONDS ? WORTH.fresh : WORTH.valid;
    }
    return WORTH.none;
  }

  /** The client's cookie stands at `at` already. */
  #make(client: Client, out: Uint8Array, at: number): void {
    const { seconds } = this.#clock;
    out[at + 8] = VERSION;
    out[at + 9] = 0;
    out[at + 10] = 0;
    out[at + 11] = 0;
    out[at + 12] = seconds >>> 24;
    out[at + 13] = seconds >>> 16;
    out[at + 14] = seconds >>> 8;
    out[at + 15] = seconds;
    const secret = this.#secrets[0]!;
    secret.read(this.#input, 0, this.#load(client, out, at));
    for (let index = 0; index < 4; index++) {
      out[at + HASHED_OPTION_OCTETS + index] = secret.low >>> (8 * index);
      out[at + HASHED_OPTION_OCTETS + 4 + index] = secret.high >>> (8 * index);
    }
  }

  /** @returns octets to hash */
  #load({ family, address }: Client, octets: Uint8Array, at: number): number {
    const input = this.#input;
    const addressOctets = family === 4 ? 4 : 16;
    for (let index = 0; index < HASHED_OPTION_OCTETS; index++) input[index] = octets[at + index]!;
    for (let index = 0; index < addressOctets; index++) input[HASHED_OPTION_OCTETS + index] = address[index]!;
    return HASHED_OPTION_OCTETS + addressOctets;
  }

  #isJudged({ family, address }: Client, octets: Uint8Array, at: number): boolean {
    const addressOctets = family === 4 ? 4 : 16;
    if (this.#judgedOctets !== COOKIE_OCTETS + addressOctets) return false;
    if (this.#judgedSeconds !== this.#clock.seconds) return false;
    const judged = this.#judged;
    for (let index = 0; index < COOKIE_OCTETS; index++)
      if (judged[index] !== octets[at + index]) return false;
    for (let index = 0; index < addressOctets; index++) {
      if (judged[COOKIE_OCTETS + index] !== address[index]) return false;
    }
    return true;
  }

  #remember({ family, address }: Client, octets: Uint8Array, at: number): void {
    const judged = this.#judged;
    const addressOctets = family === 4 ? 4 : 16;
    for (let index = 0; index < COOKIE_OCTETS; index++) judged[index] = octets[at + index]!;
    for (let index = 0; index < addressOctets; index++) judged[COOKIE_OCTETS + index] = address[index]!;
    this.#judgedOctets = COOKIE_OCTETS + addressOctets;
    this.#judgedSeconds = this.#clock.seconds;
  }
}

function littleEndian(octets: Uint8Array, at: number): number {
  return octets[at]! | (octets[at + 1]! << 8) | (octets[at + 2]! << 16) | (octets[at + 3]! << 24);
}
