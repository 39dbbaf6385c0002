/**
 * Keeps the index of attestations in step with the network.
 *
 * Promise: every proved change of an attestation that a source shows is in the index, within the time
 * of one verification; a change that cannot be proved is not. Sources are read at once, each in its own
 * order. A corrupt database of our own ends the process (an unhandled rejection); any other failure is
 * met by reading on from the stored cursor.
 *
 * A source can hold back commits, which nothing here notices; more than one source is the remedy.
 */
import type { Logger } from 'pino';
import { isCorruption } from '../database.ts';
import { type AddressLookup, isLoopback } from '../identity/address.ts';
import type { Identities } from '../identity/did.ts';
import { lookupBy } from '../identity/fetch.ts';
import type { Attestations } from './attestations.ts';
import { FrameReader } from './reader.ts';
import { Rechecker } from './rechecker.ts';
import { follow } from './subscription.ts';

export type FirehoseIndexerOptions = {
  /** Base URLs of relays or PDSes: `wss://host`, or `ws://` on loopback where that is allowed. */
  sources: string[];
  attestations: Attestations;
  identities: Identities;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Unix ms. */
  now: () => number;
  allowLoopback: boolean;
  /** The sandbox: a source elsewhere is refused. */
  loopbackOnly?: boolean;
  /** Finds a source's addresses, in place of the system's resolver. */
  lookup?: AddressLookup;
  /** An `#identity` event: the DID document may have changed. The cache has forgotten it already. */
  onIdentity?: (did: string) => void;
};

export class FirehoseIndexer {
  readonly #options: FirehoseIndexerOptions;
  readonly #sources: string[];
  readonly #stopping = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #rechecker: Rechecker | undefined;

  /** @throws Error when a source is not a base URL that may be read */
  constructor(options: FirehoseIndexerOptions) {
    this.#options = options;
    this.#sources = options.sources.map((source) => checkedSource(source, options));
  }

  start(): void {
    const { signal } = this.#stopping;
    const rechecker = new Rechecker({ ...this.#options, signal });
    this.#rechecker = rechecker;
    const readers = this.#sources.map(
      (source) => new FrameReader({ ...this.#options, source, signal, onPostponed: () => rechecker.wake() }),
    );
    this.#running = Promise.all([rechecker.run(), ...readers.map((reader) => this.#follow(reader))]);
  }

  /** Something was put on the list of rechecks from outside. */
  wake(): void {
    this.#rechecker?.wake();
  }

  /** Resolves when nothing of it touches the database any more; at once, whatever the network does. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #follow(reader: FrameReader): Promise<void> {
    const { log, count } = this.#options;
    const { signal } = this.#stopping;
    await follow(
      {
        source: reader.source,
        cursor: () => reader.cursor,
        onFrame: (frame) => reader.read(frame),
        ...{ signal, log, count, lookup: sourceLookup(this.#options) },
      },
      isCorruption,
    );
    reader.settle();
  }
}

/** An operator may name a source in the own network, so that its address is not judged. */
function sourceLookup({ allowLoopback, loopbackOnly = false, lookup }: FirehoseIndexerOptions) {
  return lookupBy({ allowLoopback, loopbackOnly, ...(lookup && { lookup }) });
}

/** Without a path or a trailing slash: it is also the name of the stored cursor. */
function checkedSource(source: string, { allowLoopback, loopbackOnly }: FirehoseIndexerOptions): string {
  if (!URL.canParse(source)) throw new Error(`firehose source ${source} is not a URL`);
  const { protocol, hostname, host } = new URL(source);
  const isLocal = hostname === 'localhost' || isLoopback(hostname.replace(/^\[|\]$/g, ''));
  const isAllowed = isLocal
    ? allowLoopback && /^wss?:$/.test(protocol)
    : protocol === 'wss:' && !loopbackOnly;
  if (!isAllowed)
    throw new Error(`firehose source ${source} must be wss://, or ws:// on loopback where allowed`);
  return `${protocol}//${host}`;
}
