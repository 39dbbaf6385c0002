/**
 * Reads the frames of one source: match → decode → prove → apply, and moves the source's cursor.
 *
 * Promise: when read() resolves the frame is done with: applied, refused and counted, put on the list of
 * rechecks, or no concern of ours. The cursor never stands past a frame that is not.
 */
import type { Logger } from 'pino';
import { attestationPath, recordKeyOf } from '../attestation-uri.ts';
import type { Identities } from '../identity/did.ts';
import type { Attestations, Cursor } from './attestations.ts';
import {
  type CommitFrame,
  decodeAccount,
  decodeCommit,
  decodeNotice,
  type FrameHead,
  readHead,
} from './frame.ts';
import { concernsUs } from './match.ts';
import type { ProvedRecord } from './proof.ts';
import { Prover, type Verdict } from './prover.ts';
import { tidTime } from './tid.ts';

export type ReaderOptions = {
  source: string;
  attestations: Attestations;
  identities: Identities;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Unix ms. */
  now: () => number;
  signal: AbortSignal;
  onIdentity?: ((did: string) => void) | undefined;
  /** Something was put on the list of rechecks. */
  onPostponed: () => void;
};

/** The source says that it cannot go on; it is asked again later. */
export class SourceError extends Error {
  override name = 'SourceError';
}

/** Frames that do not concern us move the stored cursor only now and then: re-reading them is cheap. */
const cursorEveryMs = 5_000;
/** The names of the lexicon; any other is counted as one, since a stranger chose it. */
const knownNotices = ['FutureCursor', 'ConsumerTooSlow', 'OutdatedCursor'];

/**
 * The whole source waits with us. The directory is one that the operator chose; a did:web host is a
 * stranger's, who could hold up everyone, so what is not in the cache is proved off the road.
 */
function patienceMs(did: string): number {
  return did.startsWith('did:web:') ? 0 : 2_000;
}

/** 'stored': the cursor went into the transaction of the change. */
type Done = 'stored' | 'passed';

export class FrameReader {
  readonly #options: ReaderOptions;
  readonly #prover: Prover;
  /** Done with, but not yet stored. */
  #passed: Cursor | undefined;
  #storedAt = 0;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#prover = new Prover({ ...options, patienceMs });
  }

  get source(): string {
    return this.#options.source;
  }

  /** The last seq that is done with; 0 at the very first. */
  get cursor(): number {
    const { attestations, source } = this.#options;
    return this.#passed?.seq ?? attestations.cursorOf(source) ?? 0;
  }

  /** Stores what is done with; for the end. */
  settle(): void {
    if (this.#passed) this.#options.attestations.moveCursor(this.#passed);
    this.#passed = undefined;
    this.#storedAt = this.#options.now();
  }

  /** @throws SourceError for an error frame; what the database throws; the signal's reason */
  async read(bytes: Buffer): Promise<void> {
    const head = readHead(bytes);
    if (head && isNotice(head)) return this.#notice(head);
    if (head?.seq === undefined) return this.#options.count('frames_dropped', 'malformed');
    const cursor = { source: this.source, seq: head.seq };
    const isKnown = (did: string) => this.#options.attestations.knows(did);
    const done = concernsUs(head, isKnown) ? await this.#apply(head, cursor) : 'passed';
    if (done === 'passed') return this.#pass(cursor);
    this.#passed = undefined;
    this.#storedAt = this.#options.now();
  }

  #apply(head: FrameHead, cursor: Cursor): Done | Promise<Done> {
    switch (head.type) {
      case '#commit':
        return this.#commit(head, cursor);
      case '#sync':
        return this.#sync(head, cursor);
      case '#account':
        return this.#account(head, cursor);
      default:
        return this.#identity(head);
    }
  }

  async #commit(head: FrameHead, cursor: Cursor): Promise<Done> {
    const { attestations, now } = this.#options;
    const frame = decodeCommit(head.body);
    if (!frame) return this.#leave('frames_dropped', 'malformed');
    const { did, rev } = frame;
    const keys = [...new Set(frame.ops.flatMap(({ path }) => recordKeyOf(path) ?? []))];
    if (keys.length === 0) return 'passed';
    // Before the signature, which is the cost: a replay is recognised by its rev.
    if (rev < (attestations.revOf(did) ?? '')) return this.#leave('commits_ignored', 'old_rev');
    const paths = keys.map(attestationPath);
    const verdict = await this.#prover.prove(frame.blocks, { did, paths, now: now() });
    const judged = judgeFrame(verdict, frame);
    if (judged.kind === 'postponed') return this.#postpone(did, keys, cursor);
    if (judged.kind === 'refused') {
      this.#refuse(did, judged.reason, cursor);
      // What the frame speaks of may have changed all the same, and the account's PDS can tell.
      return worthAsking.has(judged.reason) ? this.#postpone(did, keys, cursor) : 'passed';
    }
    const entries = judged.records.map(({ path, ...entry }) => ({ rkey: recordKeyOf(path)!, ...entry }));
    attestations.applyCommit({ did, rev, entries }, cursor);
    return 'stored';
  }

  /** The tree was replaced without saying how: what we hold of it is proved anew. */
  #sync({ did, rev }: FrameHead, cursor: Cursor): Done {
    const { attestations, onPostponed } = this.#options;
    const isTid = rev !== undefined && tidTime(rev) !== undefined;
    if (did === undefined || !isTid) return this.#leave('frames_dropped', 'malformed');
    if (rev <= (attestations.revOf(did) ?? '')) return this.#leave('commits_ignored', 'old_rev');
    attestations.postponeHeld(did, cursor);
    onPostponed();
    return 'stored';
  }

  #account(head: FrameHead, cursor: Cursor): Done {
    const event = decodeAccount(head.body);
    if (!event) return this.#leave('frames_dropped', 'malformed');
    const { attestations, onPostponed } = this.#options;
    if (attestations.applyAccount(event, cursor) === 'to recheck') onPostponed();
    return 'stored';
  }

  #identity({ did }: FrameHead): Done {
    if (did === undefined) return this.#leave('frames_dropped', 'malformed');
    this.#options.identities.forget(did);
    this.#options.onIdentity?.(did);
    return 'passed';
  }

  #notice({ type, body }: FrameHead): void {
    const { attestations, count, log, onPostponed } = this.#options;
    const { source } = this;
    const { name, message } = decodeNotice(body);
    count('firehose_notices', knownNotices.includes(name) ? name : 'other');
    log.warn({ source, name, message }, 'firehose notice');
    if (name === 'OutdatedCursor') {
      // What happened in the gap is unknown to us.
      attestations.postponeHeld(undefined, undefined);
      onPostponed();
    }
    // The source counts anew. To read from its beginning is safe: old revs and old events change nothing.
    if (name === 'FutureCursor') this.#pass({ source, seq: 0 });
    if (type === '') throw new SourceError(`${source} ended the stream: ${name} ${message}`);
  }

  #postpone(did: string, rkeys: string[], cursor: Cursor): Done {
    this.#options.attestations.postpone(did, rkeys, cursor);
    this.#options.count('commits_postponed');
    this.#options.onPostponed();
    return 'stored';
  }

  #refuse(did: string, reason: string, cursor: Cursor): void {
    this.#options.log.warn({ ...cursor, did, reason }, 'commit refused');
    this.#options.count('commits_refused', reason);
  }

  #leave(what: string, reason: string): Done {
    this.#options.count(what, reason);
    return 'passed';
  }

  #pass(cursor: Cursor): void {
    this.#passed = cursor;
    if (this.#options.now() - this.#storedAt >= cursorEveryMs) this.settle();
  }
}

/** An old commit, read again after its account changed the key; and a frame that does not fit its commit. */
const worthAsking: ReadonlySet<string> = new Set(['bad_signature', 'wrong_commit']);

/** An error has no type. Only these two come without a seq. */
function isNotice({ type }: FrameHead): boolean {
  return type === '' || type === '#info';
}

type Judged =
  | { kind: 'agreed'; records: ProvedRecord[] }
  | { kind: 'refused'; reason: string }
  /** Only time, or the PDS itself, can tell. */
  | { kind: 'postponed' };

/**
 * Holds the frame against the commit that the account signed.
 *
 * The operations only name the paths. What became of each is read from the signed tree: one commit may
 * touch a path twice, and then no operation but the last is true of it.
 */
function judgeFrame(verdict: Verdict, frame: CommitFrame): Judged {
  if (verdict.kind === 'unavailable') return { kind: 'postponed' };
  if (verdict.kind === 'refused') {
    return verdict.reason === 'incomplete' ? { kind: 'postponed' } : verdict;
  }
  const { rev, commit, records } = verdict;
  if (rev !== frame.rev || commit !== frame.commit) return { kind: 'refused', reason: 'wrong_commit' };
  return { kind: 'agreed', records };
}
