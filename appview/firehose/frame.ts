/**
 * Frames of com.atproto.sync.subscribeRepos.
 *
 * Promise: whatever the bytes, a frame within its bounds or undefined, never a throw. Nothing here is
 * proved: a frame is what the source says, proof.ts decides what is true.
 * Bounds: https://atproto.com/specs/sync (frame 5 MB, blocks 2 MB, 200 operations).
 */
import { decode } from '@atproto/lex-cbor';
import { isCid } from '@atproto/lex-data';
import { scanMap } from './cbor-scan.ts';

export const maxFrameBytes = 5_000_000;
const maxBlocksBytes = 2_000_000;
const maxOps = 200;

/** What is read of each frame, before we know whether it matters. */
export type FrameHead = {
  /** `#commit`, `#sync`, `#identity`, `#account`, `#info`, a type of the future, or '' for an error. */
  type: string;
  /** Absent in `#info` and errors. */
  seq?: number;
  /** `repo` or `did`. */
  did?: string;
  /** Of `#sync` and `#commit`. */
  rev?: string;
  /** The payload, undecoded. */
  body: Buffer;
};

export type CommitOp = {
  action: 'create' | 'update' | 'delete';
  /** `<collection>/<rkey>` */
  path: string;
  /** Absent in a delete. */
  cid?: string;
};

export type CommitFrame = {
  did: string;
  rev: string;
  /** CID of the commit block. */
  commit: string;
  /** A CAR: commit, MST nodes, new records. */
  blocks: Uint8Array;
  ops: CommitOp[];
};

export type AccountFrame = {
  did: string;
  active: boolean;
  /** Why not active, when the source says it: deactivated, deleted, suspended, takendown, … */
  status?: string;
  /** Unix ms, by the source's clock. */
  time: number;
};

/** An error's `error`, or an info's `name`. */
export type Notice = { name: string; message: string };

export function readHead(bytes: Buffer): FrameHead | undefined {
  if (bytes.length > maxFrameBytes) return undefined;
  const header = scanMap(bytes, 0, ['op', 't']);
  if (!header) return undefined;
  const payload = scanMap(bytes, header.end, ['seq', 'repo', 'did', 'rev']);
  if (payload?.end !== bytes.length) return undefined;
  const { t } = header.values;
  const { seq, repo, did, rev } = payload.values;
  const head: FrameHead = { type: typeof t === 'string' ? t : '', body: bytes.subarray(header.end) };
  const account = head.type === '#commit' ? repo : did;
  if (typeof seq === 'number') head.seq = seq;
  if (typeof account === 'string') head.did = account;
  if (typeof rev === 'string') head.rev = rev;
  return head;
}

export function decodeCommit(body: Uint8Array): CommitFrame | undefined {
  const { repo, rev, commit, blocks, ops } = decodeMap(body);
  if (typeof repo !== 'string' || typeof rev !== 'string' || !isCid(commit)) return undefined;
  if (!(blocks instanceof Uint8Array) || blocks.length > maxBlocksBytes) return undefined;
  if (!Array.isArray(ops) || ops.length > maxOps) return undefined;
  const read = ops.map(decodeOp);
  if (!read.every((op) => op !== undefined)) return undefined;
  return { did: repo, rev, commit: commit.toString(), blocks, ops: read };
}

function decodeOp(value: unknown): CommitOp | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { action, path, cid } = value as Record<string, unknown>;
  if (typeof path !== 'string') return undefined;
  if (action === 'delete') return { action, path };
  const writes = action === 'create' || action === 'update';
  return writes && isCid(cid) ? { action, path, cid: cid.toString() } : undefined;
}

export function decodeAccount(body: Uint8Array): AccountFrame | undefined {
  const { did, active, status, time } = decodeMap(body);
  const at = typeof time === 'string' ? Date.parse(time) : Number.NaN;
  if (typeof did !== 'string' || typeof active !== 'boolean' || Number.isNaN(at)) return undefined;
  const isReason = !active && typeof status === 'string' && status !== 'active';
  return { did, active, time: at, ...(isReason && { status: status.slice(0, 64) }) };
}

/** Of an `#info` and of an error; both may be empty, as they come from a stranger. */
export function decodeNotice(body: Uint8Array): Notice {
  const { error, name, message } = decodeMap(body);
  const text = (value: unknown) => (typeof value === 'string' ? value.slice(0, 256) : '');
  return { name: text(error ?? name), message: text(message) };
}

/** Empty when the bytes are not a map; the decoder throws on garbage and on nesting beyond the stack. */
function decodeMap(body: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = decode(body);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
