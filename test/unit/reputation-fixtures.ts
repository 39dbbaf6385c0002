/** What the tests of the private channel share: two cooperatives with real keys, a member, signals as they are made. */
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../appview/database.ts';
import type { UnsignedLabel } from '../../appview/labels/codec.ts';
import { type Signal, type SignalWords, signSignal } from '../../appview/labels/signal.ts';
import { Signals } from '../../appview/listing/signals.ts';
import { ledgerMigrations } from '../../appview/migrations.ts';
import { IssuedSignals } from '../../node/reputation/issued-signals.ts';
import { signalOutbox } from '../../node/reputation/outbox.ts';
import { log, reef, world } from './enforcement-fixtures.ts';

export const harbor = 'did:web:harbor.test';
export const meadow = 'did:web:meadow.test';
export const reefUri = `at://${reef}/email.atmos.attestation/reef.test`;

export type Cooperative = { did: string; key: Secp256k1Keypair };

export async function cooperative(did: string): Promise<Cooperative> {
  return { did, key: await Secp256k1Keypair.create({ exportable: true }) };
}

/** Suspended for spam, where nothing else is said. */
export function signalOf(
  { did, key }: Cooperative,
  fields: Partial<UnsignedLabel> = {},
  words: SignalWords = { reason: 'spam', evidence: 'review' },
): Promise<Signal> {
  const cts = new Date().toISOString();
  return signSignal({ ver: 1, src: did, uri: reef, val: 'suspended', cts, ...fields }, words, key);
}

/** `reopened()`: as the next process finds it. `changes()`: rows that were written. */
export function memorySignals(now: () => number) {
  const db = openDatabase(':memory:', ledgerMigrations, { synchronous: 'FULL' });
  const changes = db.prepare('SELECT total_changes() AS n');
  return Object.assign(new Signals({ db, now }), {
    reopened: () => new Signals({ db, now }),
    changes: () => (changes.get() as { n: number }).n,
  });
}

/** A node.db with the member reef, whose standings become signals of Harbor. */
export async function issuingWorld() {
  const made = world((db) => [signalOutbox(db)]);
  const own = await cooperative(harbor);
  const keys = { now: own.key };
  const signals = new IssuedSignals({
    ...{ db: made.db, did: harbor, key: () => keys.now, now: made.now, log },
    domainsOf: (did) => (did === reef ? ['reef.test'] : []),
    figuresOf: () => [{ window: '7d', sends: 40, bounces: 3, complaints: 1 }],
    count: () => undefined,
  });
  const setStanding = (state: string, detail: object = {}) =>
    made.events.record({
      ...{ type: 'staff_act', did: reef },
      detail: {
        act: 'standing',
        state,
        from: 'active',
        reason: 'words',
        until: null,
        by: 'person',
        ...detail,
      },
    });
  const all = async (after = 0) => (await signals.since(after, 100, false))?.signals ?? [];
  return { ...made, own, keys, signals, setStanding, all };
}

/** `suspended` on the DID, `-suspended *` ended on the record. */
export function short({ label: { val, uri, neg } }: Signal): string {
  return `${neg ? '-' : ''}${val}${uri === reef ? '' : ' *'}`;
}
