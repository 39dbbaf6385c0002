/**
 * Works off the list of rechecks: proves each record, or its absence, at its account's own PDS.
 *
 * Promise: what the firehose could not prove is proved in the end, or given up aloud. Never in the way of
 * the firehose; the address comes from a stranger's DID document, so it is fetched through the guard.
 * Beside it, once an hour, it lets go of what long deleted accounts left in the index.
 */
import type { Logger } from 'pino';
import { attestationPath, attestationCollection as collection } from '../attestation-uri.ts';
import { isCorruption } from '../database.ts';
import { type Identities, IdentityNotFound, IdentityUnavailable } from '../identity/did.ts';
import { FetchFailed, FetchRefused } from '../identity/fetch.ts';
import { unlessAborted } from '../labels/unless-aborted.ts';
import type { Attestations } from './attestations.ts';
import { Prover } from './prover.ts';
import type { Recheck } from './rechecks.ts';

type Options = {
  attestations: Attestations;
  identities: Identities;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Unix ms. */
  now: () => number;
  signal: AbortSignal;
};

const atOnce = 16;
const maxProofBytes = 2_000_000;
const maxWaitMs = 60_000;
const clearOutEveryMs = 3_600_000;

export class Rechecker {
  readonly #options: Options;
  readonly #prover: Prover;
  #bell = Promise.withResolvers<void>();
  #clearedOutAt = -Infinity;

  constructor(options: Options) {
    this.#options = options;
    this.#prover = new Prover(options);
  }

  /** Something may have become due. */
  wake(): void {
    this.#bell.resolve();
  }

  /** Resolves when the signal is aborted; rejects when our own database is corrupt. */
  async run(): Promise<void> {
    const { attestations, log, signal } = this.#options;
    while (!signal.aborted) {
      this.#bell = Promise.withResolvers();
      try {
        this.#clearOut();
        const due = attestations.rechecks.due(atOnce);
        await Promise.all(due.map((recheck) => this.#recheck(recheck)));
        if (due.length < atOnce) await this.#rest(this.#nextDueInMs());
      } catch (error) {
        if (isCorruption(error)) throw error;
        log.error({ err: error }, 'rechecks interrupted');
        await this.#rest(maxWaitMs);
      }
    }
  }

  #clearOut(): void {
    const { attestations, now } = this.#options;
    if (now() - this.#clearedOutAt < clearOutEveryMs) return;
    attestations.dropLongDeleted();
    this.#clearedOutAt = now();
  }

  #nextDueInMs(): number {
    const dueAt = this.#options.attestations.rechecks.nextDueAt() ?? Number.POSITIVE_INFINITY;
    return Math.max(0, Math.min(dueAt - this.#options.now(), maxWaitMs));
  }

  /** Until the bell, the time or the end. */
  async #rest(ms: number): Promise<void> {
    const { signal } = this.#options;
    const timer = setTimeout(() => this.wake(), ms);
    await unlessAborted(this.#bell.promise, signal).catch(() => undefined);
    clearTimeout(timer);
  }

  async #recheck(recheck: Recheck): Promise<void> {
    const { attestations, count, log, signal } = this.#options;
    const failure = await this.#proveAtPds(recheck).catch((error: unknown) => {
      if (signal.aborted) return 'stopped';
      if (error instanceof FetchFailed || error instanceof FetchRefused) return 'unreachable';
      if (error instanceof IdentityUnavailable || error instanceof IdentityNotFound) return 'identity';
      throw error;
    });
    if (failure === undefined || failure === 'stopped') return;
    count('rechecks_failed', failure);
    if (attestations.rechecks.delay(recheck)) return;
    log.warn({ did: recheck.did, rkey: recheck.rkey, failure }, 'record could not be proved, given up');
    count('rechecks_dropped', 'tries');
  }

  /** @returns why it failed, undefined when it did not */
  async #proveAtPds({ did, rkey }: Recheck): Promise<string | undefined> {
    const { attestations, identities, now, signal } = this.#options;
    const { pds } = await this.#prover.resolve(did);
    if (!pds) return 'no_pds';
    const url = `${pds}/xrpc/com.atproto.sync.getRecord?${new URLSearchParams({ did, collection, rkey })}`;
    const response = await unlessAborted(identities.fetch(url, { maxBytes: maxProofBytes }), signal);
    if (response.status !== 200) return 'pds_refused';
    const verdict = await this.#prover.prove(response.body, {
      did,
      paths: [attestationPath(rkey)],
      now: now(),
    });
    if (verdict.kind !== 'proved') return verdict.kind === 'refused' ? verdict.reason : 'identity';
    for (const { path: _, ...entry } of verdict.records) {
      attestations.applyRecheck(did, verdict.rev, { rkey, ...entry });
    }
    return undefined;
  }
}
