/**
 * Under which key an issuer's labels are good, and what it means when that changes.
 *
 * Promise: the first key is trusted: the one that the operator was shown, or else the first that we see. A later
 * one raises an alert, over a restart again rather than never. For a did:plc the directory's
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
  /** A `did:key`: the one that the operator was shown. */
  firstKey?: string;
  /** How long a did:web's new key waits. */
  keyWaitMs: number;
  onKeyChange: (src: string, change: KeyChanged) => void;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

export class IssuerKey {
  readonly #options: IssuerKeyOptions;
  /** The operator was told of it in this run. */
  #toldOf: string | undefined;

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

  isTrusted(key: string): boolean {
    const { src, store } = this.#options;
    return store.states.trustedKey(src) === key;
  }

  /** Where none is trusted yet and the operator was shown one. */
  begin(): void {
    const { src, store, firstKey } = this.#options;
    if (firstKey !== undefined && store.states.trustedKey(src) === undefined)
      store.states.trust(src, firstKey);
  }

  async #settle(key: string): Promise<void> {
    const { src, store, now } = this.#options;
    const { states } = store;
    const trusted = states.trustedKey(src);
    if (trusted === undefined) return states.trust(src, key);
    if (trusted === key) {
      if (states.keyChange(src)) this.#takenBack(key);
      return;
    }
    if (states.keyChange(src)?.key !== key) this.#changed(key);
    const { countsFrom } = states.keyChange(src)!;
    // Before it can count: a crash right here tells again, and none leaves the operator without a word.
    this.#tell({ before: trusted, after: key, countsFrom });
    if (now() >= countsFrom) await store.trustKey(src);
  }

  #changed(key: string): void {
    const { src, store, keyWaitMs, count, now } = this.#options;
    const waitMs = src.startsWith('did:web:') ? keyWaitMs : 0;
    store.undoKeyChange(src);
    store.states.awaitKey(src, { key, seenAt: now(), countsFrom: now() + waitMs });
    count('label_key_changed');
  }

  #tell(change: KeyChanged): void {
    const { src, onKeyChange, log } = this.#options;
    if (this.#toldOf === change.after) return;
    log.warn({ src, ...change }, 'the issuer has another label key');
    onKeyChange(src, change);
    this.#toldOf = change.after;
  }

  #takenBack(key: string): void {
    const { src, store, log, count, now } = this.#options;
    store.undoKeyChange(src);
    store.states.trust(src, key, now());
    this.#toldOf = undefined;
    count('label_key_taken_back');
    log.warn({ src, key }, 'the issuer is back at the label key that we trust; what waited is dropped');
  }
}
