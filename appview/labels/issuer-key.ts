/**
 * Under which key an issuer's labels are good, and what it means when that changes.
 *
 * Promise: the first key that we see is trusted. A later one raises an alert. For a did:plc the directory's
 * rotation is the proof, and it counts at once; a did:web proves no more than that somebody holds its web server,
 * so labels under its new key wait, by default for 24 h or until the operator's word. A key that is taken back
 * before it counted has never counted.
 */
import type { Logger } from 'pino';
import type { LabelStore } from './store.ts';
import { unlessAborted } from './unless-aborted.ts';

/** After forget(), resolve() answers from the network or rejects. */
export type LabelIdentities = {
  resolve(did: string): Promise<{ labelKey?: string }>;
  forget(did: string): void;
};

/** `countsFrom`: Unix ms; not ahead of now when it counts at once. */
export type KeyChanged = { before: string; after: string; countsFrom: number };

export type IssuerKeyOptions = {
  src: string;
  store: LabelStore;
  identities: LabelIdentities;
  /** How long a did:web's new key waits. */
  keyWaitMs: number;
  onKeyChange: (src: string, change: KeyChanged) => void;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

export class IssuerKey {
  readonly #options: IssuerKeyOptions;

  constructor(options: IssuerKeyOptions) {
    this.#options = options;
  }

  /** As the document says, at most as old as the cache of identities. @throws when there is none to be had */
  async current(signal: AbortSignal): Promise<string> {
    const { src, identities } = this.#options;
    const { labelKey } = await unlessAborted(identities.resolve(src), signal);
    if (!labelKey) throw new Error(`${src} has no key #atproto_label`);
    await this.#settle(labelKey);
    return labelKey;
  }

  /**
   * From the network. Forgotten and not refreshed: an older copy that answers in the document's absence would
   * condemn good labels.
   */
  fresh(signal: AbortSignal): Promise<string> {
    this.#options.identities.forget(this.#options.src);
    return this.current(signal);
  }

  async #settle(key: string): Promise<void> {
    const { src, store, now } = this.#options;
    const trusted = store.states.trustedKey(src);
    const change = store.states.keyChange(src);
    if (trusted === undefined) store.states.trust(src, key);
    else if (trusted === key && change) this.#takenBack(key);
    else if (trusted !== key && change?.key !== key) await this.#changed(trusted, key);
    else if (change && now() >= change.countsFrom) await store.trustKey(src);
  }

  async #changed(before: string, after: string): Promise<void> {
    const { src, store, keyWaitMs, onKeyChange, log, count, now } = this.#options;
    const waitMs = src.startsWith('did:web:') ? keyWaitMs : 0;
    const [seenAt, countsFrom] = [now(), now() + waitMs];
    store.undoKeyChange(src);
    store.states.awaitKey(src, { key: after, seenAt, countsFrom });
    if (waitMs <= 0) await store.trustKey(src);
    // What was signed with the old key, its issuer may have signed anew.
    store.states.reconcileAt(src, seenAt);
    count('label_key_changed');
    log.warn({ src, before, after, countsFrom }, 'the issuer has another label key');
    onKeyChange(src, { before, after, countsFrom });
  }

  #takenBack(key: string): void {
    const { src, store, log, count, now } = this.#options;
    store.undoKeyChange(src);
    store.states.trust(src, key);
    store.states.reconcileAt(src, now());
    count('label_key_taken_back');
    log.warn({ src, key }, 'the issuer is back at the label key that we trust; what waited is dropped');
  }
}
