/**
 * Proves what a repository holds at some paths, from a CAR of blocks.
 *
 * Promise: `proved` means that the account's own key signed a commit, of this account, whose tree
 * holds each record at its path, or nothing at it. Every block is checked against its CID. Of the source's
 * word nothing is believed but which paths to look at, and looking at fewer is all a false source can do.
 *
 * Serves both forms of the same proof: a `#commit` frame and com.atproto.sync.getRecord.
 */
import { decode, encode } from '@atproto/lex-cbor';
import { type Cid, isCid, type LexMap } from '@atproto/lex-data';
import { type BlockMap, MemoryBlockstore, MST, readCarWithRoot } from '@atproto/repo';
import { verifySignature } from '../identity/signature.ts';
import { tidTime } from './tid.ts';

export type Claim = {
  did: string;
  /** did:key of `#atproto`. */
  signingKey: string;
  /** `<collection>/<rkey>` each. */
  paths: string[];
  /** Unix ms. */
  now: number;
};

/** `cid` absent: the tree holds nothing there. `value` absent: a record is there that cannot be decoded. */
export type ProvedRecord = { path: string; cid?: string; value?: unknown };

export type Refusal =
  | 'bad_car'
  | 'bad_commit'
  | 'wrong_account'
  | 'future_rev'
  | 'bad_signature'
  /** Signed, but the blocks do not reach to the paths. */
  | 'incomplete';

export type Proof =
  | { kind: 'proved'; rev: string; commit: string; records: ProvedRecord[] }
  | { kind: 'refused'; reason: Refusal };

type Commit = { did: string; version: 3; data: Cid; rev: string; sig: Uint8Array };

// https://atproto.com/specs/sync: a rev ahead of the clock is ignored; this much of drift is allowed.
const allowedDriftMs = 5 * 60_000;

/** Never throws, whatever the bytes. */
export async function prove(car: Uint8Array, claim: Claim): Promise<Proof> {
  const read = await readCarWithRoot(car).catch(() => undefined);
  if (!read) return refused('bad_car');
  const { root, blocks } = read;
  const commit = decodeCommitBlock(blocks.get(root));
  if (!commit) return refused('bad_commit');
  if (commit.did !== claim.did) return refused('wrong_account');
  const revTime = tidTime(commit.rev);
  if (revTime === undefined) return refused('bad_commit');
  if (revTime > claim.now + allowedDriftMs) return refused('future_rev');
  if (!isSigned(commit, claim.signingKey)) return refused('bad_signature');
  const records = await lookUp(blocks, commit.data, claim.paths);
  if (!records) return refused('incomplete');
  return { kind: 'proved', rev: commit.rev, commit: root.toString(), records };
}

function decodeCommitBlock(bytes: Uint8Array | undefined): Commit | undefined {
  const value = bytes && decodeMap(bytes);
  if (!value) return undefined;
  const { did, version, data, rev, sig } = value;
  const wellFormed =
    typeof did === 'string' &&
    version === 3 &&
    isCid(data) &&
    typeof rev === 'string' &&
    sig instanceof Uint8Array;
  return wellFormed ? (value as Commit) : undefined;
}

/** Over the fields as received, those that we do not know included. */
function isSigned({ sig, ...unsigned }: Commit, signingKey: string): boolean {
  try {
    return verifySignature(signingKey, encode(unsigned), sig);
  } catch {
    return false; // a field that CBOR can carry and DRISL cannot: a float
  }
}

async function lookUp(blocks: BlockMap, data: Cid, paths: string[]): Promise<ProvedRecord[] | undefined> {
  const tree = MST.load(new MemoryBlockstore(blocks), data);
  const records: ProvedRecord[] = [];
  try {
    for (const path of paths) {
      const cid = await tree.get(path);
      const bytes = cid && blocks.get(cid);
      if (cid && !bytes) return undefined;
      records.push(recordAt(path, cid, bytes ?? undefined));
    }
    return records;
  } catch {
    return undefined; // a node is missing, or is not a node
  }
}

function recordAt(path: string, cid: Cid | null, bytes: Uint8Array | undefined): ProvedRecord {
  if (!cid || !bytes) return { path };
  const value = decodeMap(bytes);
  return value ? { path, cid: cid.toString(), value } : { path, cid: cid.toString() };
}

function decodeMap(bytes: Uint8Array): LexMap | undefined {
  try {
    const value = decode(bytes);
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value) && !isCid(value);
    return isMap && !(value instanceof Uint8Array) ? (value as LexMap) : undefined;
  } catch {
    return undefined;
  }
}

function refused(reason: Refusal): Proof {
  return { kind: 'refused', reason };
}
