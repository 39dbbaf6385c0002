/**
 * The figures of a domain that clean-sender.ts judges: sums of what enforcement counted in node.db.
 *
 * Organisational domains are found here, by the public suffix list, so the relay need not hold it.
 */
import type { Database } from '../../appview/database.ts';
import type { RatesOf } from '../enforcement/rates.ts';
import { sendsPerRecipient, sentRecipientDays } from '../enforcement/sent-recipients.ts';
import type { SendingFigures } from './clean-sender.ts';
import { organisationalDomain } from './dmarc.ts';

const dayMs = 86_400_000;

export type SendingFiguresOf = (did: string, domain: string) => SendingFigures;

/** @param o.ownDomains of the member: what it sends there counts nowhere */
export function sendingFigures(o: {
  db: Database.Database;
  rates: RatesOf;
  ownDomains: (did: string) => readonly string[];
  now: () => number;
}): SendingFiguresOf {
  const byDomain = o.db.prepare(
    `SELECT at_domain AS at, sum(counted) AS sends, count(*) AS recipients FROM (
       SELECT at_domain, min(${sendsPerRecipient}, sum(sends)) AS counted FROM sent_recipient
       WHERE did = ? AND domain = ? AND day BETWEEN ? AND ? GROUP BY at_domain, recipient)
     GROUP BY at_domain`,
  );
  const daysTo = o.db.prepare(
    `SELECT count(DISTINCT day) AS days FROM sent_recipient
     WHERE did = ? AND domain = ? AND day BETWEEN ? AND ? AND at_domain IN (SELECT value FROM json_each(?))`,
  );
  return (did, domain) => {
    const today = Math.floor(o.now() / dayMs);
    const whose = [did, domain, today - sentRecipientDays + 1, today];
    const own = new Set(o.ownDomains(did).map(organisationalDomain));
    const rows = (byDomain.all(whose) as { at: string; sends: number; recipients: number }[]).filter(
      ({ at }) => !own.has(organisationalDomain(at)),
    );
    const { days } = daysTo.get([...whose, JSON.stringify(rows.map(({ at }) => at))]) as { days: number };
    const all = o.rates({ did, domain, window: '30d' });
    return {
      sends: rows.reduce((sum, { sends }) => sum + sends, 0),
      days,
      recipients: rows.reduce((sum, { recipients }) => sum + recipients, 0),
      organisations: new Set(rows.map(({ at }) => organisationalDomain(at))).size,
      ...{ accepted: all.sends, recipientInvalid: all.recipientInvalid, complaints: all.complaints },
    };
  };
}
