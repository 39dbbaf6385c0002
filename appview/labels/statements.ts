/** The statements of store.ts, by what they are for. */
import type { Database } from '../database.ts';

/** Of a label as it is read. */
const columns = 'body, ordered_at, expires_at, received_at';

/** A label in force at a time that is the next parameter. */
const inForce = 'neg = 0 AND gone_at IS NULL AND (expires_at IS NULL OR expires_at > ?)';

export function prepare(db: Database.Database) {
  return {
    cursor: db.prepare('SELECT seq FROM label_cursor WHERE src = ?'),
    moveCursor: db.prepare('INSERT OR REPLACE INTO label_cursor (src, seq) VALUES (?, ?)'),
    order: db.prepare('SELECT ordered_at, neg FROM label WHERE src = ? AND uri = ? AND val = ?'),
    put: db.prepare(
      `INSERT OR REPLACE INTO label (src, uri, val, neg, ordered_at, expires_at, domain, body, received_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    find: db.prepare(
      'SELECT rowid, ordered_at, received_at, body, gone_at FROM label WHERE src = ? AND uri = ? AND val = ?',
    ),
    resign: db.prepare('UPDATE label SET body = ? WHERE rowid = ?'),
    heldBefore: db.prepare(
      `SELECT rowid, body FROM label
       WHERE src = ? AND (uri, val) > (?, ?) AND received_at < ? AND ordered_at < ? AND ${inForce}
       ORDER BY uri, val LIMIT ?`,
    ),
    withdraw: db.prepare(
      `UPDATE label SET gone_at = ? WHERE rowid = ? AND received_at < ? AND neg = 0 AND gone_at IS NULL
       RETURNING ${columns}`,
    ),
    waitingOrder: db.prepare('SELECT ordered_at FROM waiting_label WHERE src = ? AND uri = ? AND val = ?'),
    park: db.prepare(
      'INSERT OR REPLACE INTO waiting_label (src, uri, val, ordered_at, body) VALUES (?, ?, ?, ?, ?)',
    ),
    waiting: db.prepare('SELECT rowid, body FROM waiting_label WHERE src = ? ORDER BY rowid LIMIT ?'),
    dropWaiting: db.prepare('DELETE FROM waiting_label WHERE rowid IN (SELECT value FROM json_each(?))'),
    dropAllWaiting: db.prepare('DELETE FROM waiting_label WHERE src = ?'),
    dropNegations: db.prepare('DELETE FROM label WHERE src = ? AND neg = 1 AND received_at >= ?'),
    current: db.prepare(
      `SELECT ${columns} FROM label
       WHERE uri = ? AND ${inForce} ORDER BY src, val`,
    ),
    currentOf: db.prepare(
      `SELECT ${columns} FROM label
       WHERE src IN (SELECT value FROM json_each(?)) AND uri = ? AND val IN (SELECT value FROM json_each(?))
         AND ${inForce} ORDER BY src, val`,
    ),
    uris: db.prepare(
      `SELECT DISTINCT uri FROM label
       WHERE domain = ? AND src IN (SELECT value FROM json_each(?)) AND val IN (SELECT value FROM json_each(?))
         AND ${inForce} LIMIT ?`,
    ),
    domainsOf: db.prepare(
      'SELECT DISTINCT uri, domain FROM label WHERE src = ? AND uri > ? ORDER BY uri LIMIT ?',
    ),
    issuers: db.prepare('SELECT src FROM label_cursor UNION SELECT src FROM label_issuer'),
    drop: db.prepare('DELETE FROM label WHERE rowid IN (SELECT rowid FROM label WHERE src = ? LIMIT ?)'),
    dropCursor: db.prepare('DELETE FROM label_cursor WHERE src = ?'),
    domains: db.prepare(
      `SELECT DISTINCT domain FROM label
       WHERE domain IS NOT NULL AND src IN (SELECT value FROM json_each(?))`,
    ),
  };
}
