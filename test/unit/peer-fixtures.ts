/** What the tests of peers share: other cooperatives that answer on loopback, and an operator's side of ours. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../appview/database.ts';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import {
  type CooperativeRecord,
  type PeerRecord,
  signDeclaration,
} from '../../node/cooperative/declaration.ts';
import { didDocument } from '../../node/cooperative/did-document.ts';
import { type ConfiguredPeer, PeerBook } from '../../node/cooperative/peer-book.ts';
import { type Following, type PeerAct, Peers } from '../../node/cooperative/peers.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { type DnsTable, tableResolver } from './labeler-fixtures.ts';

export const now = Date.parse('2026-11-20T09:00:00Z');
export const ourDid = 'did:web:harbor.test';

type Answer = { status?: number; body: string | Uint8Array };

/** A cooperative with a did:web on loopback; what it answers can be replaced, path by path. */
export class OtherCooperative {
  readonly key: Secp256k1Keypair;
  readonly #server: Server;
  readonly answers = new Map<string, Answer>();
  /** Paths, in order. */
  readonly asked: string[] = [];
  name = 'Dune';
  handle: string | undefined;
  record: Partial<CooperativeRecord> = {};
  peers: PeerRecord[] = [];
  labels: object[] = [];

  private constructor(key: Secp256k1Keypair, server: Server) {
    this.key = key;
    this.#server = server;
  }

  static async start(): Promise<OtherCooperative> {
    const server = createServer();
    const other = new OtherCooperative(await Secp256k1Keypair.create(), server);
    server.on('request', async (request, reply) => {
      const { pathname, searchParams } = new URL(request.url!, 'http://x');
      other.asked.push(pathname);
      const { status = 200, body } =
        other.answers.get(pathname) ?? (await other.#answer(pathname, searchParams));
      reply.writeHead(status).end(body);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return other;
  }

  get url(): string {
    return `http://localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  get did(): string {
    return `did:web:localhost%3A${(this.#server.address() as AddressInfo).port}`;
  }

  async declaration(
    o: { key?: Secp256k1Keypair; iss?: string; issuedAt?: number } = {},
  ): Promise<Uint8Array> {
    const { key = this.key, iss = this.did, issuedAt = now - 1_000 } = o;
    const cooperative = {
      ...{ $type: 'email.atmos.cooperative', name: this.name, poolDomain: 'dune.test', labeler: this.url },
      ...{ createdAt: '2026-01-01T00:00:00.000Z', ...this.record },
    } as CooperativeRecord;
    return signDeclaration({ iss, issuedAt, lifetimeMs: 86_400_000, cooperative, peers: this.peers }, key);
  }

  async #answer(path: string, query: URLSearchParams): Promise<Answer> {
    if (path === '/.well-known/did.json') return { body: JSON.stringify(this.#document()) };
    if (path.endsWith('getDeclaration')) return { body: await this.declaration() };
    if (path.endsWith('queryLabels')) return { body: JSON.stringify(this.#page(query)) };
    return { status: 404, body: '' };
  }

  #document() {
    const document = didDocument({ did: this.did, labelKey: this.key.did(), labelerUrl: this.url });
    return { ...document, ...(this.handle && { alsoKnownAs: [`at://${this.handle}`] }) };
  }

  #page(query: URLSearchParams) {
    const from = Number(query.get('cursor') ?? 0);
    const labels = this.labels.slice(from, from + Number(query.get('limit')));
    return { labels, ...(labels.length > 0 && { cursor: String(from + labels.length) }) };
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** Our side, with an AppView that notes what it is told. */
export function openOperator({ configured = [] as ConfiguredPeer[], dns = {} as DnsTable } = {}) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const book = new PeerBook({ db, configured, now: () => now });
  const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: true, lookup: async () => [] });
  const identities = new Identities({ plcUrl: 'http://localhost:1', fetch, now: () => now });
  const told: string[] = [];
  const acts: PeerAct[] = [];
  const status = { state: 'following', keyWaits: false };
  const following: Following<typeof status> = {
    follow: (did, labelKey) => void told.push(`follow ${did} ${labelKey}`),
    unfollow: async (did) => void told.push(`unfollow ${did}`),
    setRoots: async (dids) => void told.push(`roots ${dids.join(' ')}`.trim()),
    peerStatus: (did) => (book.get(did)?.stance === 'censure' ? undefined : status),
    trustPeerKey: async (did) => (status.keyWaits ? told.push(`trust ${did}`) : undefined),
    releasePeer: (did) => status.state === 'quarantined' && told.push(`release ${did}`) > 0,
  };
  const peers = new Peers({
    ...{ book, own: { did: ourDid, poolDomain: 'harbor.test' }, identities, following, now: () => now },
    resolver: tableResolver(dns),
    record: (act, change) => {
      change();
      acts.push(act);
    },
  });
  return { db, book, peers, told, acts, identities, status };
}
