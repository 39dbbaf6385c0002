/**
 * Brings records of our repo in line with what they should be: as few commits as possible, none where all is well.
 *
 * What stands there is read without a password and compared first. `createdAt` alone is no change: a record that
 * stays keeps its own.
 */
import { isDeepStrictEqual } from 'node:util';
import type { AtpAgent } from '@atproto/api';
import { said } from './agent.ts';

export type RepoRecord = { collection: string; rkey: string; record: Record<string, unknown> };

export type Wanted = {
  /** Made from the record that stands there, if any. */
  records: (RepoRecord | ((there: Record<string, unknown> | undefined) => RepoRecord))[];
  /** Collections in which nothing else is to stand. */
  whole: string[];
};

export type Write =
  | { kind: 'create' | 'update'; collection: string; rkey: string; value: Record<string, unknown> }
  | { kind: 'delete'; collection: string; rkey: string };

/** com.atproto.repo.applyWrites takes 200; a commit of a megabyte is taken by nobody. */
const writesAtOnce = 100;
const maxCommitBytes = 200_000;
const pageSize = 100;
/** Of one collection: more than the peers that a declaration holds. */
const maxRecords = 2_000;

/**
 * @param reader may be signed out
 * @throws PdsRefused, FetchFailed, FetchRefused
 */
export async function missingWrites(reader: AtpAgent, repo: string, wanted: Wanted): Promise<Write[]> {
  const collections = new Set([...wanted.whole, ...wanted.records.map((one) => plain(one).collection)]);
  const there = new Map<string, Record<string, unknown>>();
  for (const collection of collections)
    for (const [rkey, value] of await recordsOf(reader, repo, collection))
      there.set(`${collection}/${rkey}`, value);
  return writesFor(there, wanted);
}

/** @param agent signed in as the repo's account. @throws PdsRefused, FetchFailed, FetchRefused */
export async function applyWrites(agent: AtpAgent, repo: string, writes: readonly Write[]): Promise<void> {
  for (const some of batches(writes))
    await said(() => agent.com.atproto.repo.applyWrites({ repo, writes: some.map(asWrite) }));
}

/** @param there by `collection/rkey` */
export function writesFor(there: ReadonlyMap<string, Record<string, unknown>>, wanted: Wanted): Write[] {
  const records = wanted.records.map((one) => plain(one, there));
  const named = new Set(records.map(pathOf));
  const extra = [...there.keys()].filter((path) => !named.has(path));
  const removed = extra.flatMap((path): Write[] => {
    const [collection, rkey] = path.split('/') as [string, string];
    return wanted.whole.includes(collection) ? [{ kind: 'delete', collection, rkey }] : [];
  });
  return [...records.flatMap((one) => writeOf(one, there.get(pathOf(one)))), ...removed];
}

function writeOf(
  { collection, rkey, record }: RepoRecord,
  there: Record<string, unknown> | undefined,
): Write[] {
  if (!there) return [{ kind: 'create', collection, rkey, value: record }];
  if (isDeepStrictEqual(undated(there), undated(record))) return [];
  return [{ kind: 'update', collection, rkey, value: record }];
}

function undated({ createdAt: _, ...rest }: Record<string, unknown>): unknown {
  // As JSON, which is how it came: an absent field is like one that is undefined.
  return JSON.parse(JSON.stringify(rest));
}

function plain(
  one: Wanted['records'][number],
  there?: ReadonlyMap<string, Record<string, unknown>>,
): RepoRecord {
  if (typeof one !== 'function') return one;
  const fresh = one(undefined);
  return there ? one(there.get(pathOf(fresh))) : fresh;
}

function pathOf({ collection, rkey }: Pick<RepoRecord, 'collection' | 'rkey'>): string {
  return `${collection}/${rkey}`;
}

async function recordsOf(agent: AtpAgent, repo: string, collection: string) {
  const found = new Map<string, Record<string, unknown>>();
  let cursor: string | undefined;
  do {
    const query = { repo, collection, limit: pageSize, ...(cursor && { cursor }) };
    const { data } = await said(() => agent.com.atproto.repo.listRecords(query));
    const before = found.size;
    for (const { uri, value } of data.records)
      found.set(uri.split('/').at(-1)!, value as Record<string, unknown>);
    if (found.size > maxRecords) throw new Error(`${collection} of ${repo} holds over ${maxRecords} records`);
    // A page that only repeats is the end, whatever its cursor says.
    cursor = found.size > before ? data.cursor : undefined;
  } while (cursor !== undefined);
  return found;
}

function batches(writes: readonly Write[]): Write[][] {
  const all: Write[][] = [];
  let bytes = 0;
  for (const write of writes) {
    const size = JSON.stringify(write).length;
    const last = all.at(-1);
    if (!last || last.length >= writesAtOnce || bytes + size > maxCommitBytes) {
      all.push([write]);
      bytes = size;
    } else {
      last.push(write);
      bytes += size;
    }
  }
  return all;
}

function asWrite({ kind, ...write }: Write) {
  switch (kind) {
    case 'create':
      return { $type: 'com.atproto.repo.applyWrites#create' as const, ...(write as Valued) };
    case 'update':
      return { $type: 'com.atproto.repo.applyWrites#update' as const, ...(write as Valued) };
    case 'delete':
      return { $type: 'com.atproto.repo.applyWrites#delete' as const, ...write };
  }
}

type Valued = { collection: string; rkey: string; value: Record<string, unknown> };
