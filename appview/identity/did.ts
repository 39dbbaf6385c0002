/**
 * DIDs → identities, with a cache.
 *
 * Promise: an answer is at most an hour old, or a day while the network gives none; what an `#identity`
 * event names is asked anew. One question per DID is under way at a time, and the cache is bounded.
 * Only did:plc and host-level did:web are resolved (https://atproto.com/specs/did).
 */
import { type DidDocument, type Identity, parseDidDocument } from './document.ts';
import { FetchRefused, type GuardedFetch, type GuardedResponse } from './fetch.ts';

export type { DidDocument, Identity } from './document.ts';

const freshForMs = 3_600_000;
const usableForMs = 24 * 3_600_000;
const absentForMs = 60_000;
/** A DID is asked anew no more often, so that bad signatures cannot make us flood a directory. */
const refreshEveryMs = 5_000;
const maxDocumentBytes = 64 * 1024;

/** No answer now; a later try may bring one. */
export class IdentityUnavailable extends Error {
  override name = 'IdentityUnavailable';
}

/** The DID does not exist, is not of a kind we resolve, or its document is not its own. */
export class IdentityNotFound extends Error {
  override name = 'IdentityNotFound';
}

export type IdentitiesOptions = {
  /** Base URL of the PLC directory. */
  plcUrl: string;
  fetch: GuardedFetch;
  /** Unix ms. */
  now: () => number;
  /** Our own document, as it stands now: never fetched. */
  own?: () => DidDocument;
  /** Default 20,000; the least recently used goes first. */
  maxEntries?: number;
};

type Entry = { at: number; identity?: Identity };

export class Identities {
  /** For what else a stranger's document makes us fetch: a record's proof at its PDS. */
  readonly fetch: GuardedFetch;
  readonly #options: IdentitiesOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #underWay = new Map<string, Promise<Identity>>();

  constructor(options: IdentitiesOptions) {
    this.#options = options;
    this.fetch = options.fetch;
  }

  /**
   * @param options.refresh asks the network, for instance after a bad signature; at most every 5 s a DID,
   *   and between them the answer is what the last one brought
   * @throws IdentityUnavailable (transient) or IdentityNotFound
   */
  async resolve(did: string, options: { refresh?: boolean } = {}): Promise<Identity> {
    const own = this.#options.own?.();
    if (own?.id === did) return ownIdentity(own);
    const entry = this.#entries.get(did);
    if (entry && this.#isFresh(entry, options.refresh ?? false)) return this.#recall(did, entry);
    try {
      return await (this.#underWay.get(did) ?? this.#ask(did));
    } catch (error) {
      const isUsable = entry?.identity && this.#options.now() - entry.at < usableForMs;
      // Who asks for a refresh has no use for what is known.
      if (error instanceof IdentityUnavailable && isUsable && !options.refresh) return entry.identity!;
      throw error;
    }
  }

  /** What is here already, fresh or not; asks nobody. */
  known(did: string): Identity | undefined {
    const own = this.#options.own?.();
    return own?.id === did ? ownIdentity(own) : this.#entries.get(did)?.identity;
  }

  /** The next resolve asks the network. */
  forget(did: string): void {
    this.#entries.delete(did);
    // What is under way may have been answered before the change: nobody new waits for it, and it is not kept.
    this.#underWay.delete(did);
  }

  #isFresh({ at, identity }: Entry, refresh: boolean): boolean {
    const age = this.#options.now() - at;
    if (refresh) return age < refreshEveryMs;
    return age < (identity ? freshForMs : absentForMs);
  }

  #recall(did: string, entry: Entry): Identity {
    this.#entries.delete(did);
    this.#entries.set(did, entry);
    if (!entry.identity) throw new IdentityNotFound(`${did} was not found`);
    return entry.identity;
  }

  #ask(did: string): Promise<Identity> {
    const isCurrent = () => this.#underWay.get(did) === asked;
    const asked = this.#fetchAndKeep(did, isCurrent).finally(() => {
      if (isCurrent()) this.#underWay.delete(did);
    });
    this.#underWay.set(did, asked);
    return asked;
  }

  /** @param isCurrent false once forget() was called: then the answer may be from before the change */
  async #fetchAndKeep(did: string, isCurrent: () => boolean): Promise<Identity> {
    const at = this.#options.now();
    try {
      const identity = await this.#fetchDocument(did);
      if (isCurrent()) this.#keep(did, { at, identity });
      return identity;
    } catch (error) {
      if (error instanceof IdentityNotFound && isCurrent()) this.#keep(did, { at });
      throw error;
    }
  }

  #keep(did: string, entry: Entry): void {
    const { maxEntries = 20_000 } = this.#options;
    this.#entries.delete(did);
    if (this.#entries.size >= maxEntries) this.#entries.delete(this.#entries.keys().next().value!);
    this.#entries.set(did, entry);
  }

  async #fetchDocument(did: string): Promise<Identity> {
    const url = documentUrl(did, this.#options.plcUrl);
    if (!url) throw new IdentityNotFound(`${did} is not a DID that we resolve`);
    const response = await this.#get(did, url);
    // 410: a PLC tombstone.
    if (response.status === 404 || response.status === 410)
      throw new IdentityNotFound(`${did} was not found`);
    if (response.status !== 200) throw new IdentityUnavailable(`${url} answered ${response.status}`);
    const identity = parseDidDocument(parseJson(response.body), did);
    if (!identity) throw new IdentityNotFound(`${url} is not the document of ${did}`);
    return identity;
  }

  async #get(did: string, url: string): Promise<GuardedResponse> {
    try {
      return await this.fetch(url, { maxBytes: maxDocumentBytes, headers: { accept: 'application/json' } });
    } catch (error) {
      if (error instanceof FetchRefused) throw new IdentityNotFound(`${did}: ${error.message}`);
      throw new IdentityUnavailable(`${did}: ${(error as Error).message}`, { cause: error });
    }
  }
}

function ownIdentity(document: DidDocument): Identity {
  const identity = parseDidDocument(document, document.id);
  if (!identity) throw new Error('our own DID document does not parse');
  return identity;
}

/** Where the document of a DID lies; undefined for a DID that atproto does not use. */
function documentUrl(did: string, plcUrl: string): string | undefined {
  if (/^did:plc:[a-z2-7]{24}$/.test(did)) return `${plcUrl.replace(/\/+$/, '')}/${did}`;
  const web = /^did:web:([a-z0-9.-]{1,253})(?:%3A(\d{1,5}))?$/i.exec(did);
  if (!web) return undefined;
  const [, host, port] = web;
  // Only `localhost` is http, and the fetch refuses that unless loopback is allowed.
  const isLocal = host === 'localhost';
  if (port && !isLocal) return undefined;
  return `${isLocal ? 'http' : 'https'}://${host}${port ? `:${port}` : ''}/.well-known/did.json`;
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    return undefined;
  }
}
