/** How many labels still carry the signature of a key before today's: signed anew when somebody reads them. */
import type { Database } from '../../appview/database.ts';

/** @param db node.db @param didKey of the key that signs now @returns of the labels that stand */
export function labelsOfOtherKeys(db: Database.Database, didKey: string): number {
  const counted = db.prepare(
    `SELECT count(*) AS labels FROM current_label
     WHERE key IS NULL OR key NOT IN (SELECT id FROM label_key WHERE did_key = ?)`,
  );
  return (counted.get(didKey) as { labels: number }).labels;
}
