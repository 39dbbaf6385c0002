/**
 * The composition of what a labeler alone reads of the network: its members' attestations.
 *
 * Belongs to node.ts. Where there is an AppView, that reads them, and everything else besides (listings.ts).
 */
import { join } from 'node:path';
import type { AppView } from '../appview/appview.ts';
import { openDatabase } from '../appview/database.ts';
import { AttestationFeed } from '../appview/firehose/feed.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import type { Identities } from '../appview/identity/did.ts';
import { appviewMigrations } from '../appview/migrations.ts';
import type { Composing } from './composing.ts';
import type { Membership } from './state.ts';

/** An AppView is one. */
export type Attested = Pick<AppView, 'attestations' | 'recheck' | 'start' | 'stop'>;

/** Nothing is read yet. */
export function openFeed(
  { config, stops, log, count, now }: Composing,
  { identities, rules }: { identities: Identities; rules: AddressRules },
): AttestationFeed {
  const db = openDatabase(join(config.stateDir, 'appview.db'), appviewMigrations, { synchronous: 'NORMAL' });
  stops.store('appview.db', () => db.close());
  return new AttestationFeed({ db, sources: config.firehose, identities, log, count, now, ...rules });
}

/** @param what for the order of stopping */
export function startReading(
  { stops }: Pick<Composing, 'stops'>,
  what: string,
  reading: Attested,
  { members }: Membership,
): void {
  // Our own members' records are asked for by name: a new index has only what the firehose still holds.
  for (const { did, domains } of members.list()) {
    if (reading.attestations.hidden(did)) continue;
    const indexed = new Set(reading.attestations.of(did).map(({ rkey }) => rkey));
    for (const { name } of domains) if (!indexed.has(name)) reading.recheck(did, name);
  }
  reading.start();
  stops.work(what, () => reading.stop());
}
