/** The schema of spool.db. Times are Unix ms. */
import type { Migration } from '../../appview/database.ts';

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
];
