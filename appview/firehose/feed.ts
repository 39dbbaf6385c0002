/**
 * Attestations as the network has them: the index, and the firehose that feeds it.
 *
 * What an AppView begins with, and all that a labeler alone reads.
 */
import { Attestations } from './attestations.ts';
import { FirehoseIndexer, type FirehoseIndexerOptions } from './indexer.ts';

export type AttestationFeedOptions = Omit<FirehoseIndexerOptions, 'attestations'> & {
  /** Opened with appviewMigrations. */
  db: ConstructorParameters<typeof Attestations>[0]['db'];
};

export class AttestationFeed {
  readonly attestations: Attestations;
  readonly #indexer: FirehoseIndexer;

  /** @throws Error when a source is not a base URL that may be read */
  constructor({ db, ...options }: AttestationFeedOptions) {
    const { log, count, now } = options;
    this.attestations = new Attestations({ db, log, count, now });
    this.#indexer = new FirehoseIndexer({ ...options, attestations: this.attestations });
  }

  start(): void {
    this.#indexer.start();
  }

  /**
   * Has one record proved at its account's PDS, and indexed if it is there; at once, and again for a day
   * or so while the PDS does not answer. For what no source keeps any more, such as the records of our own
   * members after appview.db was lost.
   *
   * @param domain A-labels, lower case
   * @returns false when too much waits already: ask again later
   */
  recheck(did: string, domain: string): boolean {
    const isListed = this.attestations.recheck(did, domain);
    this.#indexer.wake();
    return isListed;
  }

  /** Resolves when nothing here reads or writes any more; the database is the caller's to close. */
  stop(): Promise<void> {
    return this.#indexer.stop();
  }
}
