/** What the tests of labels and listings share: an issuer with a real key, databases in memory, counters. */
import { Secp256k1Keypair } from '@atproto/crypto';
import { pino } from 'pino';
import { type Database, openDatabase } from '../../appview/database.ts';
import {
  type AttestationRow,
  Attestations,
  type Cursor,
  type ProvedEntry,
} from '../../appview/firehose/attestations.ts';
import { type SignedLabel, signLabel, type UnsignedLabel } from '../../appview/labels/codec.ts';
import { appviewMigrations, ledgerMigrations } from '../../appview/migrations.ts';

export const quiet = pino({ level: 'silent' });

export const memberDid = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
export const strangerDid = 'did:plc:z72i7hdynmk6r22z27h6tvur';
export const cids = [
  'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku',
  'bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm',
] as const;

/** 2026-06-01T00:00:00.000Z */
export const june = 1_780_272_000_000;
export const dayMs = 86_400_000;

export function iso(at: number): string {
  return new Date(at).toISOString();
}

export function uriOf(domain: string, did = memberDid): string {
  return `at://${did}/email.atmos.attestation/${domain}`;
}

export type Issuer = {
  did: string;
  didKey: string;
  sign(fields: Partial<UnsignedLabel>): Promise<SignedLabel>;
};

/** Signs what a test gives, and for the rest a vote on reef.test's attestation made on 1 June. */
export async function issuer(did = 'did:web:harbor.test'): Promise<Issuer> {
  const key = await Secp256k1Keypair.create();
  const vote = { ver: 1, src: did, uri: uriOf('reef.test'), cid: cids[0], val: 'verified-mail-operator' };
  return {
    did,
    didKey: key.did(),
    sign: (fields) => signLabel({ ...vote, cts: iso(june), ...fields }, key),
  };
}

export function memoryDatabases(): { db: Database.Database; ledgerDb: Database.Database } {
  return {
    db: openDatabase(':memory:', appviewMigrations, { synchronous: 'NORMAL' }),
    ledgerDb: openDatabase(':memory:', ledgerMigrations, { synchronous: 'FULL' }),
  };
}

/** Counts as the node does, by `what` or `what{reason}`. */
export type Counted = {
  count: (what: string, reason?: string) => void;
  of(name: string): number;
  /** Resolves when `name` has been counted `times` times in all. */
  reached(name: string, times?: number): Promise<void>;
};

export function counters(): Counted {
  const counts = new Map<string, number>();
  const waiting: { name: string; times: number; resolve: () => void }[] = [];
  const of = (name: string) => counts.get(name) ?? 0;
  return {
    of,
    count: (what, reason) => {
      const name = reason === undefined ? what : `${what}{${reason}}`;
      counts.set(name, of(name) + 1);
      for (const one of waiting) if (of(one.name) >= one.times) one.resolve();
    },
    reached: (name, times = 1) =>
      new Promise((resolve) => {
        if (of(name) >= times) resolve();
        else waiting.push({ name, times, resolve });
      }),
  };
}

/** Commits of members, as the firehose brings them once they are proved, applied to a real index. */
export class Commits {
  readonly index: Attestations;
  #count = 0;

  constructor(db: Database.Database) {
    this.index = new Attestations({ db, log: quiet, count: () => undefined, now: () => june });
  }

  put(domain: string, { did = memberDid, cid = cids[0] as string } = {}): AttestationRow {
    const fields = { domain, dkimSelectors: ['atmos'], createdAt: '2026-05-01T00:00:00.000Z' };
    this.#apply(did, { rkey: domain, cid, value: { $type: 'email.atmos.attestation', ...fields } });
    const row = this.index.get(uriOf(domain, did));
    if (!row) throw new Error(`${domain} was not indexed`);
    return row;
  }

  remove(domain: string, did = memberDid): void {
    this.#apply(did, { rkey: domain });
  }

  setActive(active: boolean, did = memberDid): void {
    const event = { did, active, time: june + this.#count, ...(active ? {} : { status: 'deactivated' }) };
    this.index.applyAccount(event, this.#next());
  }

  #apply(did: string, entry: ProvedEntry): void {
    const cursor = this.#next();
    // A TID: later commits sort behind earlier ones.
    const rev = `3lqq2rl${cursor.seq
      .toString(6)
      .padStart(6, '0')
      .replace(/\d/g, (digit) => `${Number(digit) + 2}`)}`;
    this.index.applyCommit({ did, rev, entries: [entry] }, cursor);
  }

  #next(): Cursor {
    this.#count += 1;
    return { source: 'ws://relay.test', seq: this.#count };
  }
}
