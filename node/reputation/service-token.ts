/**
 * Service tokens between cooperatives: who calls a method of the private channel.
 *
 * Promise: a caller is known only by a token of a peer whom we serve, for exactly this cooperative and this method,
 * at most a minute long, signed with the key that we trust as its label key, and used once. Every other token ends
 * in the same refusal after the same work: one verification, with a key of nobody where there is none to try, and
 * no question to the network that the answer waits for. A token that may have been used before this process began is
 * refused: one from before, and, since a peer's clock may be ahead of ours, one of the first seconds.
 *
 * https://atproto.com/specs/xrpc#inter-service-authentication-jwt
 */

import type { Keypair } from '@atproto/crypto';
import { createServiceJwt, verifyJwt } from '@atproto/xrpc-server';
import { verifySignature } from '../../appview/identity/signature.ts';

/** Of the tokens that we make. Half of what a peer allows, for clocks that differ. */
const lifetimeS = 30;
const longestMs = 60_000;
/** By how much a peer's clock may be ahead of ours. */
const longestLeadMs = 5_000;
const maxTokenBytes = 2_048;
/** Of each peer: tokens a minute, and those that may come at once. */
const perMinute = 60;
/** @atproto/crypto's own generator point: a valid key whose secret (1) signs nothing for us. */
const decoyKey = 'did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9';

export type CallerOptions = {
  /** Ours. */
  did: string;
  /** Whether this cooperative may read what we tell peers. */
  serves: (did: string) => boolean;
  /** The label key of a peer whom we serve, as far as it is trusted, and known here already. */
  keyOf: (did: string) => string | undefined;
  /** The key may have changed: ask in the background, for the next token. */
  refreshKey: (did: string) => void;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /** When this process began, Unix ms. Default: now. */
  startedAt?: number;
};

/** @param to DID of the peer. @param method NSID */
export function serviceToken(o: { did: string; key: Keypair; to: string; method: string; now: number }) {
  const iat = Math.floor(o.now / 1000);
  return createServiceJwt({
    iss: `${o.did}#atproto_labeler` as `did:${string}:${string}`,
    aud: o.to as `did:${string}:${string}`,
    ...{ lxm: o.method, keypair: o.key, iat, exp: iat + lifetimeS },
  } as Parameters<typeof createServiceJwt>[0]);
}

type Claims = { exp: number; iat?: unknown; jti?: unknown };

export class Callers {
  readonly #o: CallerOptions;
  readonly #startedAt: number;
  /** Used tokens, until they are over. */
  readonly #used = new Map<string, number>();
  readonly #tokens = new Map<string, { left: number; at: number }>();

  constructor(options: CallerOptions) {
    this.#o = options;
    this.#startedAt = options.startedAt ?? options.now();
  }

  /**
   * @param authorization the header as it came
   * @returns the DID of the peer; undefined for everyone else, and for one that asks too often
   */
  async callerOf(authorization: string | undefined, method: string): Promise<string | undefined> {
    const token = /^Bearer ([\w.-]+)$/.exec(authorization ?? '')?.[1] ?? '';
    const did = token.length <= maxTokenBytes ? await this.#issuer(token, method) : this.#decoy();
    this.#o.count('reputation_calls', did ? 'served' : 'refused');
    return did;
  }

  async #issuer(token: string, method: string): Promise<string | undefined> {
    let hasVerified = false;
    let peer: string | undefined;
    const keyFor = async (iss: string, isSecondTry: boolean) => {
      const did = this.#peerNamed(iss);
      if (isSecondTry && did) this.#o.refreshKey(did);
      if (isSecondTry) return decoyKey;
      const key = did && this.#o.keyOf(did);
      if (key) peer = did;
      return key ?? decoyKey;
    };
    const verify = async (key: string, message: Uint8Array, signature: Uint8Array) => {
      // The second try, with a key that was asked for meanwhile, is the next token's.
      if (hasVerified) return false;
      hasVerified = true;
      return verifySignature(key, message, signature) && peer !== undefined;
    };
    try {
      const claims = await verifyJwt(token, this.#o.did, method, keyFor, verify);
      return peer !== undefined && this.#isGood(peer, claims as Claims) ? peer : undefined;
    } catch {
      // Which of its parts was wrong is nobody's business.
      return hasVerified ? undefined : this.#decoy();
    }
  }

  #peerNamed(iss: string): string | undefined {
    const did = /^(did:[^#]+)#atproto_labeler$/.exec(iss)?.[1];
    return did !== undefined && this.#o.serves(did) ? did : undefined;
  }

  #isGood(peer: string, { exp, iat, jti }: Claims): boolean {
    const now = this.#o.now();
    const until = exp * 1000;
    if (!Number.isSafeInteger(exp) || until <= now || until > now + longestMs) return false;
    if (!this.#isOfOurTime(iat, exp)) return false;
    if (typeof jti !== 'string' || jti.length < 8 || jti.length > 128) return false;
    // In this order, so that what one peer has us remember is bounded by its rate.
    return this.#hasRoom(peer) && this.#isFirst(`${peer} ${jti}`, until, now);
  }

  /** What was made before we began was made before `startedAt`, by a clock that is ahead as far as may be. */
  #isOfOurTime(iat: unknown, exp: number): boolean {
    if (!Number.isSafeInteger(iat) || (iat as number) > exp) return false;
    const at = (iat as number) * 1000;
    return at <= this.#o.now() + longestLeadMs && at > this.#startedAt + longestLeadMs;
  }

  #isFirst(id: string, until: number, now: number): boolean {
    if (this.#used.has(id)) return false;
    this.#used.set(id, until);
    // Nearly in the order of their ends: none lives longer than a minute.
    for (const [old, over] of this.#used) {
      if (over > now) break;
      this.#used.delete(old);
    }
    return true;
  }

  #hasRoom(did: string): boolean {
    const now = this.#o.now();
    const { left, at } = this.#tokens.get(did) ?? { left: perMinute, at: now };
    const filled = Math.min(perMinute, left + (Math.max(now - at, 0) * perMinute) / 60_000);
    this.#tokens.set(did, { left: Math.max(filled - 1, 0), at: now });
    return filled >= 1;
  }

  /** As much work as a real one. */
  #decoy(): undefined {
    verifySignature(decoyKey, Buffer.from('nobody'), decoySignature);
    return undefined;
  }
}

/** In range, so that the arithmetic is done. */
const decoySignature = Uint8Array.from({ length: 64 }, (_, at) => (at % 32 === 31 ? 7 : 1));
