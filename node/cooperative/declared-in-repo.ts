/**
 * The declarations of a cooperative with a repo, each record proved by the commit that its account signed.
 *
 * The PDS is believed in nothing but which peers there are: it may leave out a record, never make one up.
 */

import { type ProvedRecord, prove } from '../../appview/firehose/proof.ts';
import type { GuardedFetch, GuardedResponse } from '../../appview/identity/fetch.ts';
import { email } from '../../lexicons/index.ts';
import type { CooperativeRecord, Declared, PeerRecord } from './declaration.ts';
import { maxPeers, recordKeyOf } from './peer-book.ts';
import type { LabelerIdentity } from './peer-name.ts';
import { badDeclaration as bad, unanswered } from './peer-refusal.ts';

const maxProofBytes = 2_000_000;
const maxPageBytes = 1_000_000;
const atOnce = 8;
const pageSize = 100;

export class RepoDeclarations {
  readonly #identity: LabelerIdentity;
  readonly #fetch: GuardedFetch;
  readonly #now: () => number;

  constructor(identity: LabelerIdentity, { fetch, now }: { fetch: GuardedFetch; now: () => number }) {
    this.#identity = identity;
    this.#fetch = fetch;
    this.#now = now;
  }

  /** @returns undefined when the repo holds no `email.atmos.cooperative/self`. @throws PeerRefused, FetchFailed */
  async read(): Promise<Declared | undefined> {
    const self = await this.#proved(email.atmos.cooperative.$nsid, 'self');
    if (self === undefined) return undefined;
    const parsed = email.atmos.cooperative.main.safeParse(self);
    if (!parsed.success) throw bad('its record email.atmos.cooperative/self breaks the lexicon.');
    return { source: 'repo', cooperative: parsed.value as CooperativeRecord, peers: await this.#peers() };
  }

  async #peers(): Promise<PeerRecord[]> {
    const keys = await this.#peerKeys();
    const records: PeerRecord[] = [];
    for (let i = 0; i < keys.length; i += atOnce) {
      const some = await Promise.all(keys.slice(i, i + atOnce).map((key) => this.#peer(key)));
      records.push(...some.flatMap((record) => record ?? []));
    }
    return records;
  }

  /** A record that breaks the lexicon, or stands under another's key, counts as absent. */
  async #peer(key: string): Promise<PeerRecord | undefined> {
    const parsed = email.atmos.peer.main.safeParse(await this.#proved(email.atmos.peer.$nsid, key));
    const record = parsed.success ? (parsed.value as PeerRecord) : undefined;
    return record && recordKeyOf(record.subject) === key ? record : undefined;
  }

  async #peerKeys(): Promise<string[]> {
    const keys = new Set<string>();
    let cursor: string | undefined;
    do {
      const page = await this.#page(cursor);
      const before = keys.size;
      for (const key of page.keys) if (keys.size < maxPeers) keys.add(key);
      // An empty page, or one that only repeats, is the end whatever the cursor says.
      cursor = keys.size > before && keys.size < maxPeers ? page.cursor : undefined;
    } while (cursor !== undefined);
    return [...keys];
  }

  async #page(cursor: string | undefined): Promise<{ keys: string[]; cursor?: string }> {
    const collection = email.atmos.peer.$nsid;
    const query = {
      repo: this.#identity.did,
      collection,
      limit: String(pageSize),
      ...(cursor && { cursor }),
    };
    const url = this.#url('com.atproto.repo.listRecords', query);
    const response = await this.#fetch(url, { maxBytes: maxPageBytes });
    if (response.status !== 200) throw unanswered(url, response);
    return readPage(response.body);
  }

  /** @returns undefined when the account's commit proves that nothing is there */
  async #proved(collection: string, rkey: string): Promise<unknown> {
    const { did, signingKey } = this.#identity;
    if (!signingKey) throw bad(`${did} has a repo and no key #atproto in its document.`);
    const url = this.#url('com.atproto.sync.getRecord', { did, collection, rkey });
    const response = await this.#fetch(url, { maxBytes: maxProofBytes });
    if (response.status !== 200) return absent(url, response);
    const path = `${collection}/${rkey}`;
    const proof = await prove(response.body, { did, signingKey, paths: [path], now: this.#now() });
    if (proof.kind === 'refused') throw bad(`its PDS does not prove ${path}: ${proof.reason}.`);
    return contentOf(proof.records[0], path);
  }

  #url(method: string, query: Record<string, string>): string {
    return `${this.#identity.pds}/xrpc/${method}?${new URLSearchParams(query)}`;
  }
}

/** A PDS may also answer 404, or 400 RecordNotFound or RepoNotFound, where nothing is. */
function absent(url: string, response: GuardedResponse): undefined {
  const { error } = (fromJson(response.body) ?? {}) as { error?: unknown };
  if (response.status === 404 || error === 'RecordNotFound' || error === 'RepoNotFound') return undefined;
  throw unanswered(url, response);
}

function contentOf(record: ProvedRecord | undefined, path: string): unknown {
  if (record?.cid !== undefined && record.value === undefined)
    throw bad(`its record ${path} cannot be read.`);
  return record?.value;
}

/** Keys alone: what the page says is in the records is not looked at. */
function readPage(body: Uint8Array): { keys: string[]; cursor?: string } {
  const { records, cursor } = (fromJson(body) ?? {}) as { records?: unknown; cursor?: unknown };
  const uris = (Array.isArray(records) ? records : []).map((one) => (one as { uri?: unknown } | null)?.uri);
  const keys = uris.flatMap((uri) => (typeof uri === 'string' ? (uri.split('/').at(-1) ?? []) : []));
  const isUsable = (key: string) => /^[A-Za-z0-9._:~-]{1,512}$/.test(key);
  return { keys: keys.filter(isUsable), ...(typeof cursor === 'string' && cursor && { cursor }) };
}

function fromJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    return undefined;
  }
}
