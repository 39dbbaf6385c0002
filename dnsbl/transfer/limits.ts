/** Every cap of transfers, journals and notifications. */

export type TransferLimits = {
  /** Transfers under way at once; one more is answered SERVFAIL and may come again. */
  maxTransfers: number;
  /** Of those, to one IPv4 address or one IPv6 prefix of 56 bits. */
  maxTransfersPerPeer: number;
  /** One transfer, from its first message to its last. */
  maxTransferMs: number;
  /** One transfer: about 5 million listings with their explanations have 2 GB. */
  maxTransferOctets: number;
  /** An IXFR that comes before the journal and the zone are known to agree waits so long at most. */
  settleWaitMs: number;
  /** A zone's journal on disk; at this size its older half is dropped. */
  maxJournalOctets: number;
  /** How long a change may wait to be written with others. */
  journalWriteMs: number;
  /** Between two notifications of one zone to one secondary. */
  notifyIntervalMs: number;
  /** Before the second try of a notification; twice as long before each further one. */
  notifyRetryMs: number;
  /** The longest such wait. */
  notifyMaxRetryMs: number;
  /** Tries for one change; the next change begins again. */
  notifyTries: number;
};

export const defaultTransferLimits: TransferLimits = {
  maxTransfers: 16,
  maxTransfersPerPeer: 4,
  maxTransferMs: 30 * 60_000,
  maxTransferOctets: 4 * 2 ** 30,
  settleWaitMs: 5000,
  maxJournalOctets: 64 * 2 ** 20,
  journalWriteMs: 100,
  notifyIntervalMs: 1000,
  notifyRetryMs: 1000,
  notifyMaxRetryMs: 60_000,
  notifyTries: 7,
};

/** A message of a transfer. Compression pointers reach no further (RFC 1035 §4.1.4: 14 bits). */
export const TRANSFER_MESSAGE_OCTETS = 16_384;

/** Work between two turns of the event loop while a zone is read for a transfer or its digest. */
export const TURN_MS = 4;

/** Steps of the journal that become one difference of an IXFR. */
export const MAX_STEPS_IN_DIFFERENCE = 1024;

/** A journal is read in pieces of so many octets. */
export const JOURNAL_READ_OCTETS = 256 * 1024;
