/** What the tests of the firehose share: accounts with real signed repositories, their frames, and a directory that answers for them. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type Keypair, Secp256k1Keypair } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import type { Cid, LexMap } from '@atproto/lex-data';
import {
  BlockMap,
  blocksToCarFile,
  getRecords,
  MemoryBlockstore,
  type RecordWriteOp,
  Repo,
  WriteOpAction,
} from '@atproto/repo';

export const collection = 'email.atmos.attestation';

export type Write = { action: 'create' | 'update' | 'delete'; rkey: string; record?: LexMap; in?: string };

/** The payload of a `#commit`, as a PDS makes it. */
export type CommitBody = {
  repo: string;
  rev: string;
  since: string | null;
  commit: Cid;
  blocks: Uint8Array;
  ops: { action: string; path: string; cid: Cid | null }[];
  time: string;
};

let accounts = 0;

/** An account with a key and a repository, in memory. */
export class Author {
  readonly did: string;
  key: Keypair;
  readonly #storage = new MemoryBlockstore();
  #repo: Repo | undefined;

  private constructor(did: string, key: Keypair) {
    this.did = did;
    this.key = key;
  }

  static async create(
    did = `did:plc:${String(accounts++)
      .replace(/[0189]/g, 'x')
      .padStart(24, 'a')}`,
  ) {
    const author = new Author(did, await Secp256k1Keypair.create());
    author.#repo = await Repo.create(author.#storage, did as never, author.key);
    return author;
  }

  /** Enough other records for a tree of several floors. */
  async fill(count: number): Promise<void> {
    const writes: RecordWriteOp[] = Array.from({ length: count }, (_, i) => ({
      action: WriteOpAction.Create,
      collection: 'app.bsky.feed.post' as never,
      rkey: `post${i}` as never,
      record: { text: `post ${i}` },
    }));
    this.#repo = await this.#repo!.applyWrites(writes, this.key);
  }

  /** Signs with `signer`, by default with the account's own key. */
  async commit(writes: Write[], signer: Keypair = this.key): Promise<CommitBody> {
    const ops = writes.map(
      (write) =>
        ({
          action: write.action,
          collection: write.in ?? collection,
          rkey: write.rkey,
          ...(write.record && { record: write.record }),
        }) as RecordWriteOp,
    );
    const data = await this.#repo!.formatCommit(ops, signer);
    this.#repo = await this.#repo!.applyCommit(data);
    const sent = new BlockMap().addMap(data.newBlocks).addMap(data.relevantBlocks);
    return {
      repo: this.did,
      rev: data.rev,
      since: data.since,
      commit: data.cid,
      blocks: await blocksToCarFile(data.cid, sent),
      ops: await Promise.all(
        writes.map(async (write) => {
          const path = `${write.in ?? collection}/${write.rkey}`;
          return { action: write.action, path, cid: await this.#repo!.data.get(path) };
        }),
      ),
      time: new Date().toISOString(),
    };
  }

  async attest(domain: string, fields: LexMap = {}): Promise<CommitBody> {
    const action = (await this.#repo!.data.get(`${collection}/${domain}`)) ? 'update' : 'create';
    return this.commit([{ action, rkey: domain, record: attestation(domain, fields) }]);
  }

  /** What com.atproto.sync.getRecord answers. */
  async getRecord(rkey: string, inside: string = collection): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    const paths = [{ collection: inside, rkey }] as never;
    for await (const chunk of getRecords(this.#storage, this.#repo!.cid, paths)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  get rev(): string {
    return this.#repo!.commit.rev;
  }

  document(pds: string): Record<string, unknown> {
    const id = `${this.did}#atproto`;
    const publicKeyMultibase = this.key.did().slice('did:key:'.length);
    return {
      id: this.did,
      alsoKnownAs: ['at://reef.test'],
      verificationMethod: [{ id, type: 'Multikey', controller: this.did, publicKeyMultibase }],
      service: [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: pds }],
    };
  }
}

export function attestation(domain: string, fields: LexMap = {}): LexMap {
  return {
    $type: collection,
    ...{ domain, dkimSelectors: ['atmos'], createdAt: '2026-05-01T00:00:00.000Z' },
    ...fields,
  };
}

/** A frame as it stands on the wire. */
export function frame(t: string, body: Record<string, unknown>): Buffer {
  return Buffer.concat([encode({ op: 1, t }), encode(body as LexMap)]);
}

export function commitFrame(seq: number, body: CommitBody): Buffer {
  return frame('#commit', { seq, ...body, blobs: [], tooBig: false, rebase: false });
}

export function errorFrame(error: string): Buffer {
  return Buffer.concat([encode({ op: -1 }), encode({ error, message: 'no more' })]);
}

/** PLC directory and PDS in one server, for the authors that it is told of. */
export class Directory {
  readonly #authors = new Map<string, Author>();
  readonly #server = createServer((request, response) => void this.#answer(request.url ?? '/', response));
  /** Instead of an answer. */
  failWith: number | undefined;
  asked = 0;
  url = '';

  static async start(...authors: Author[]): Promise<Directory> {
    const directory = new Directory();
    for (const author of authors) directory.add(author);
    directory.#server.listen(0, '127.0.0.1');
    await once(directory.#server, 'listening');
    directory.url = `http://127.0.0.1:${(directory.#server.address() as { port: number }).port}`;
    return directory;
  }

  /** A did:web account too, when its DID names this server. */
  add(author: Author): void {
    this.#authors.set(author.did, author);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(path: string, response: ServerResponse): Promise<void> {
    this.asked++;
    const url = new URL(path, this.url);
    const isProof = url.pathname === '/xrpc/com.atproto.sync.getRecord';
    const isWeb = url.pathname === '/.well-known/did.json';
    const did = isProof ? url.searchParams.get('did')! : url.pathname.slice(1);
    const author = this.#authors.get(isWeb ? `did:web:localhost%3A${url.port}` : did);
    if (this.failWith !== undefined) response.writeHead(this.failWith).end();
    else if (!author) response.writeHead(404).end();
    else if (isProof) response.end(await author.getRecord(url.searchParams.get('rkey')!));
    else response.end(JSON.stringify(author.document(this.url)));
  }
}
