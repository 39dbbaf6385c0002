/**
 * Finds the key for a proof: resolves the account, proves, and asks once more when the key may be old.
 */
import { type Identities, IdentityNotFound, IdentityUnavailable } from '../identity/did.ts';
import type { Identity } from '../identity/document.ts';
import { unlessAborted } from '../labels/unless-aborted.ts';
import { type Proof, prove, type Refusal } from './proof.ts';

export type Verdict =
  | Extract<Proof, { kind: 'proved' }>
  | { kind: 'refused'; reason: Refusal | 'unknown_identity' | 'no_signing_key' }
  /** The identity cannot be resolved now. */
  | { kind: 'unavailable' };

type Claim = { did: string; paths: string[]; now: number };

export type ProverOptions = {
  identities: Identities;
  signal: AbortSignal;
  /** How long the document of a DID is waited for, ms; without it, as long as the fetch takes. */
  patienceMs?: (did: string) => number;
};

export class Prover {
  readonly #options: ProverOptions;

  constructor(options: ProverOptions) {
    this.#options = options;
  }

  /** @throws the signal's reason when it is aborted meanwhile: no answer is worth waiting for at the end */
  async prove(car: Uint8Array, claim: Claim): Promise<Verdict> {
    try {
      const identity = await this.resolve(claim.did);
      const verdict = await withKey(car, claim, identity);
      if (verdict.kind !== 'refused' || !isAboutTheKey(verdict.reason)) return verdict;
      const renewed = await this.resolve(claim.did, { refresh: true });
      return renewed.signingKey === identity.signingKey ? verdict : await withKey(car, claim, renewed);
    } catch (error) {
      if (error instanceof IdentityUnavailable) return { kind: 'unavailable' };
      if (error instanceof IdentityNotFound) return { kind: 'refused', reason: 'unknown_identity' };
      throw error;
    }
  }

  /** @throws IdentityUnavailable, IdentityNotFound, or the signal's reason */
  async resolve(did: string, options?: { refresh: boolean }): Promise<Identity> {
    const { identities, signal, patienceMs } = this.#options;
    const answer = unlessAborted(identities.resolve(did, options), signal);
    return patienceMs ? within(answer, patienceMs(did)) : answer;
  }
}

async function withKey(car: Uint8Array, claim: Claim, { signingKey }: Identity): Promise<Verdict> {
  if (!signingKey) return { kind: 'refused', reason: 'no_signing_key' };
  return prove(car, { ...claim, signingKey });
}

/** What comes later still finds its way into the cache. */
async function within(answer: Promise<Identity>, ms: number): Promise<Identity> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new IdentityUnavailable(`no answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([answer, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

function isAboutTheKey(reason: string): boolean {
  return reason === 'bad_signature' || reason === 'no_signing_key';
}
