/**
 * What an enrolment looks at beside its own request: peers' private signals, and what trusted peers' labels say.
 *
 * Opened for each enrolment and closed again: enrolments are few, and a command does them beside the node that
 * runs. Where no AppView has run yet there is nothing to look at.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { attestationUri } from '../appview/attestation-uri.ts';
import { type Database, type Migration, openDatabase } from '../appview/database.ts';
import { Attestations } from '../appview/firehose/attestations.ts';
import { cleanSenderOf } from '../appview/labels/vouching.ts';
import { Signals } from '../appview/listing/signals.ts';
import { appviewMigrations, ledgerMigrations } from '../appview/migrations.ts';
import type { Config } from './config.ts';
import { isTrusted, PeerBook } from './cooperative/peer-book.ts';
import { OperatorNotices } from './enforcement/operator-notices.ts';
import type { Newcomers } from './members/members.ts';
import { type Finding, findings } from './reputation/findings.ts';
import { EnrolmentReview } from './reputation/review.ts';

const quiet = pino({ level: 'silent' });

/** @param db node.db */
export function newcomers(config: Config, db: Database.Database, now: () => number): Newcomers<Finding> {
  const book = new PeerBook({ db, configured: config.peers, now });
  let opened: EnrolmentReview | undefined;
  const review = () => {
    opened ??= new EnrolmentReview({
      ...{ db, now, projections: [new OperatorNotices({ db, now, log: quiet })] },
      findingsOf: (did, domains) => signalsOn(config, book, now, did, domains),
    });
    return opened;
  };
  return {
    reasons: (did, domains) => review().reasons(did, domains),
    hold: (did, reasons, enrol) => review().hold(did, reasons, enrol),
    warmedDays: (did, domain) => warmedDays(config, book, now, attestationUri(did, domain)),
  };
}

/** What peers' signals say of an account and its domains, as far as this node has heard. */
export function signalsOn(
  config: Config,
  book: Pick<PeerBook, 'all'>,
  now: () => number,
  did: string,
  domains: readonly string[],
): Finding[] {
  const heard = new Set(
    book
      .all()
      .filter(isTrusted)
      .map((peer) => peer.did),
  );
  return (
    look(config, 'ledger.db', ledgerMigrations, (ledgerDb) => {
      const found = (attestedBy: (domain: string) => string[]) =>
        findings({
          ...{ signals: new Signals({ db: ledgerDb, now }), attestedBy },
          isHeard: (src) => heard.has(src),
        })(did, domains);
      const withIndex = look(config, 'appview.db', appviewMigrations, (db) => {
        const attestations = new Attestations({ db, log: quiet, count: () => undefined, now });
        return found((domain) => attestations.byDomain(domain).map((row) => row.did));
      });
      return withIndex ?? found(() => []);
    }) ?? []
  );
}

/** A peer that we guarantee, and that found the sender clean, stands for the first days of warming. */
function warmedDays(config: Config, book: PeerBook, now: () => number, uri: string): number {
  const guaranteed = book.all().flatMap(({ did, stance }) => (stance === 'guarantee' ? did : []));
  if (guaranteed.length === 0) return 0;
  const src = look(config, 'appview.db', appviewMigrations, (db) => cleanSenderOf(db, now)(uri, guaranteed));
  return src === undefined ? 0 : config.caps.warmingAfterCleanSender;
}

function look<T>(
  { stateDir }: Config,
  name: string,
  migrations: readonly Migration[],
  read: (db: Database.Database) => T,
): T | undefined {
  const file = join(stateDir, name);
  if (!existsSync(file)) return undefined;
  // The node that runs has looked through it.
  const db = openDatabase(file, migrations, { synchronous: 'FULL', checkedUpToBytes: 0 });
  try {
    return read(db);
  } finally {
    db.close();
  }
}
