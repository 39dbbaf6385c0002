/** For whom issuers vouch now, counted from appview.db. */

import type { Database } from '../database.ts';
import { cleanSender, verifiedMailOperator } from '../label-values.ts';

const inForce = 'neg = 0 AND gone_at IS NULL AND (expires_at IS NULL OR expires_at > ?)';

/** @returns how many domains' attestations this issuer labels `verified-mail-operator` */
export function vouchedBy(db: Database.Database, now: () => number): (src: string) => number {
  const count = db.prepare(
    `SELECT count(*) AS n FROM label WHERE src = ? AND val = ? AND domain IS NOT NULL AND ${inForce}`,
  );
  return (src) => (count.get(src, verifiedMailOperator, now()) as { n: number }).n;
}

/** @returns which of these issuers labels the attestation `clean-sender` */
export function cleanSenderOf(
  db: Database.Database,
  now: () => number,
): (uri: string, srcs: readonly string[]) => string | undefined {
  const find = db.prepare(
    `SELECT src FROM label WHERE src IN (SELECT value FROM json_each(?)) AND uri = ? AND val = ? AND ${inForce}
     ORDER BY src LIMIT 1`,
  );
  return (uri, srcs) =>
    (find.get(JSON.stringify(srcs), uri, cleanSender, now()) as { src: string } | undefined)?.src;
}
