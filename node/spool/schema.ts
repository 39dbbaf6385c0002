/**
 * The schema of spool.db. Times are Unix ms.
 *
 * Written once for each message and once for each outcome, so every index has to earn its place: rows are
 * keyed by numbers that only grow, what is long and short-lived stands apart (`content`), and what an
 * operator asks once a day is found by looking through what is open.
 */
import type { Migration } from '../../appview/database.ts';

/** In `next_at` of an open recipient: never due by itself. */
export const heldAt = 2 ** 52;
/** Likewise: to be cancelled as soon as the try under way is over. */
export const cancellingAt = heldAt + 1;

/** A clock that goes back by less is a correction that nobody notices. */
export const backwardsMs = 60_000;

export const spoolMigrations: readonly Migration[] = [
  {
    number: 1,
    name: 'messages, recipients, attempts, events, usage',
    sql: `
      CREATE TABLE message (
        queue_id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,             -- 'mail' | 'dsn' | 'notice'
        did TEXT NOT NULL,
        domain TEXT NOT NULL,
        via TEXT NOT NULL,
        mail_from TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        size INTEGER NOT NULL,          -- octets of the body
        in_file INTEGER NOT NULL,       -- 1: the body is spool/<queue_id>, not a row of body
        open INTEGER NOT NULL,          -- recipients that are not terminal; at 0 the body is gone
        finished_at INTEGER
      ) STRICT;
      CREATE INDEX message_finished ON message (finished_at) WHERE finished_at IS NOT NULL;

      -- Apart from message, so that looking at the queue does not read the mail.
      CREATE TABLE body (
        queue_id TEXT PRIMARY KEY REFERENCES message (queue_id) ON DELETE CASCADE,
        bytes BLOB NOT NULL
      ) STRICT;

      CREATE TABLE recipient (
        id TEXT PRIMARY KEY,            -- '<queue_id>.<n>'
        queue_id TEXT NOT NULL REFERENCES message (queue_id) ON DELETE CASCADE,
        address TEXT NOT NULL,
        recipient_domain TEXT NOT NULL, -- of the address, in lower case
        return_path TEXT NOT NULL,
        signatures BLOB NOT NULL,       -- empty once terminal
        signed_at INTEGER NOT NULL,
        prefix BLOB NOT NULL,           -- empty once terminal
        state TEXT NOT NULL,            -- states.ts
        attempts INTEGER NOT NULL,      -- that counted
        next_at INTEGER                 -- null when terminal
      ) STRICT;
      CREATE INDEX recipient_of_message ON recipient (queue_id);
      CREATE INDEX recipient_due ON recipient (recipient_domain, next_at) WHERE next_at IS NOT NULL;

      -- When the first of each domain is due, so that nobody has to look through the backlog of a domain
      -- that takes nothing now. Kept by the triggers alone.
      CREATE TABLE domain_queue (
        recipient_domain TEXT PRIMARY KEY,
        next_at INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX domain_queue_due ON domain_queue (next_at);

      CREATE TRIGGER recipient_queued AFTER INSERT ON recipient WHEN NEW.next_at IS NOT NULL BEGIN
        INSERT INTO domain_queue (recipient_domain, next_at) VALUES (NEW.recipient_domain, NEW.next_at)
          ON CONFLICT (recipient_domain) DO UPDATE SET next_at = excluded.next_at
          WHERE excluded.next_at < next_at;
      END;
      -- Rows are deleted only when they are terminal, and those left the queue by this update.
      CREATE TRIGGER recipient_moved AFTER UPDATE OF next_at ON recipient BEGIN
        DELETE FROM domain_queue WHERE recipient_domain = NEW.recipient_domain;
        INSERT INTO domain_queue (recipient_domain, next_at)
          SELECT recipient_domain, next_at FROM recipient
          WHERE recipient_domain = NEW.recipient_domain AND next_at IS NOT NULL
          ORDER BY next_at LIMIT 1;
      END;

      CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        recipient_id TEXT NOT NULL REFERENCES recipient (id) ON DELETE CASCADE,
        counted INTEGER NOT NULL,
        summary TEXT NOT NULL,
        repeats INTEGER NOT NULL,
        body TEXT NOT NULL              -- JSON of the AttemptRecord
      ) STRICT;
      CREATE INDEX attempt_of_recipient ON attempt (recipient_id, id);

      -- The outbox: written with its cause, copied to node.db by id.
      CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        body TEXT NOT NULL              -- JSON of the Event
      ) STRICT;

      -- Recipients accepted per minute, for the caps; 48 h are kept.
      CREATE TABLE usage (
        scope TEXT NOT NULL,
        minute INTEGER NOT NULL,        -- Unix ms / 60,000
        recipients INTEGER NOT NULL,
        PRIMARY KEY (scope, minute)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX usage_by_minute ON usage (minute);
    `,
  },
  {
    number: 2,
    name: 'lanes, schedules, holds, idempotency, sites, quotas',
    sql: `
      DROP TRIGGER recipient_queued;
      DROP TRIGGER recipient_moved;
      DROP TABLE domain_queue;
      ALTER TABLE message RENAME TO old_message;
      ALTER TABLE recipient RENAME TO old_recipient;
      DROP INDEX message_finished;
      DROP INDEX recipient_of_message;
      DROP INDEX recipient_due;

      CREATE TABLE message (
        seq INTEGER PRIMARY KEY,        -- in the order of acceptance
        queue_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,             -- 'mail' | 'dsn' | 'notice'
        did TEXT NOT NULL,
        domain TEXT NOT NULL,
        via TEXT NOT NULL,
        mail_from TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,    -- without the time that a recipient was scheduled or held
        size INTEGER NOT NULL,          -- octets of the body
        in_file INTEGER NOT NULL,       -- 1: the body is spool/<queue_id>, not a row of content
        open INTEGER NOT NULL,          -- recipients that are not terminal; at 0 the body is gone
        finished_at INTEGER,
        key_id TEXT,
        category TEXT,
        details TEXT                    -- JSON of MessageDetails (rows.ts), where there are any
      ) STRICT;
      CREATE INDEX message_finished ON message (finished_at) WHERE finished_at IS NOT NULL;
      CREATE INDEX message_of_member ON message (did, seq);

      CREATE TABLE recipient (
        seq INTEGER PRIMARY KEY,        -- message.seq × 65,536 + its number in the message
        site TEXT NOT NULL,
        did TEXT NOT NULL,
        next_at INTEGER,                -- null when terminal; heldAt and cancellingAt: not by itself
        state TEXT NOT NULL,            -- states.ts
        address TEXT NOT NULL,
        recipient_domain TEXT NOT NULL, -- of the address, in lower case
        return_path TEXT NOT NULL,
        signed_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,      -- that counted
        records INTEGER NOT NULL,       -- rows of history
        paused_ms INTEGER NOT NULL,     -- scheduled or held so far: that much later it expires
        details TEXT                    -- JSON of RecipientDetails (rows.ts), where there are any
      ) STRICT;
      -- Both the lanes and all that is open.
      CREATE INDEX recipient_waiting ON recipient (site, did, next_at) WHERE next_at IS NOT NULL;

      -- Gone with the need for it. At message.seq × 65,536 the lines of recipient 1, then the body; the lines of
      -- the others at recipient.seq. So most messages are one row.
      CREATE TABLE content (
        seq INTEGER PRIMARY KEY,
        bytes BLOB NOT NULL,
        split INTEGER NOT NULL,         -- where the prefix begins behind the signatures
        body_at INTEGER NOT NULL        -- and the body behind that
      ) STRICT;

      -- Tries and acts of each recipient.
      CREATE TABLE history (
        recipient INTEGER NOT NULL,
        number INTEGER NOT NULL,        -- from 1
        repeats INTEGER NOT NULL,
        body TEXT NOT NULL,             -- JSON of the AttemptRecord or ActRecord
        PRIMARY KEY (recipient, number)
      ) STRICT, WITHOUT ROWID;

      INSERT INTO message SELECT rowid, queue_id, kind, did, domain, via, mail_from, received_at, expires_at,
        size, in_file, open, finished_at, NULL, NULL, NULL FROM old_message ORDER BY queue_id;
      CREATE TEMP TABLE moved AS SELECT r.id AS id, r.rowid AS old,
        m.seq * 65536 + CAST(substr(r.id, length(r.queue_id) + 2) AS INTEGER) AS seq
        FROM old_recipient r JOIN message m USING (queue_id);
      CREATE UNIQUE INDEX temp.moved_id ON moved (id);
      INSERT INTO recipient SELECT v.seq, r.recipient_domain, m.did, r.next_at, r.state, r.address,
        r.recipient_domain, r.return_path, r.signed_at, r.attempts,
        (SELECT COUNT(*) FROM attempt a WHERE a.recipient_id = r.id), 0, NULL
        FROM old_recipient r JOIN moved v ON v.id = r.id JOIN message m USING (queue_id) ORDER BY v.seq;
      INSERT INTO content SELECT m.seq * 65536,
        CAST(COALESCE(r.signatures || r.prefix, '') || COALESCE(b.bytes, '') AS BLOB),
        COALESCE(length(r.signatures), 0), COALESCE(length(r.signatures) + length(r.prefix), 0)
        FROM message m LEFT JOIN body b USING (queue_id)
        LEFT JOIN old_recipient r ON r.id = m.queue_id || '.1' AND r.next_at IS NOT NULL WHERE m.open > 0;
      INSERT INTO content SELECT v.seq, CAST(r.signatures || r.prefix AS BLOB), length(r.signatures),
        length(r.signatures) + length(r.prefix)
        FROM old_recipient r JOIN moved v ON v.id = r.id WHERE r.next_at IS NOT NULL AND v.seq % 65536 <> 1;
      INSERT INTO history SELECT v.seq, ROW_NUMBER() OVER (PARTITION BY v.seq ORDER BY a.id), a.repeats, a.body
        FROM attempt a JOIN moved v ON v.id = a.recipient_id;
      DROP TABLE temp.moved;
      DROP TABLE attempt;
      DROP TABLE body;
      DROP TABLE old_recipient;
      DROP TABLE old_message;

      -- How far below full the hour's bucket of a scope was at the end of that minute.
      ALTER TABLE usage ADD COLUMN debt REAL NOT NULL DEFAULT 0;

      -- Where a recipient domain's mail goes; the domain itself where there is no row.
      CREATE TABLE site_of (
        domain TEXT PRIMARY KEY,
        site TEXT NOT NULL
      ) STRICT;

      -- The answers of requests with a key; 24 h are kept.
      CREATE TABLE idempotency (
        did TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        answer TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (did, key)
      ) STRICT;
      CREATE INDEX idempotency_by_time ON idempotency (at);

      -- What our addresses sent to whom, a day; 8 days are kept.
      CREATE TABLE source (
        address TEXT PRIMARY KEY,
        first_at INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE source_use (
        day INTEGER NOT NULL,           -- Unix ms / 86,400,000
        source TEXT NOT NULL,
        provider TEXT NOT NULL,
        sent INTEGER NOT NULL,
        PRIMARY KEY (day, source, provider)
      ) STRICT, WITHOUT ROWID;
    `,
  },
];
