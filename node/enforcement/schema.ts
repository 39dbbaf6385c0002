/** Tables of enforcement in node.db, by migration. Counters are those of rates.ts. */
const counters = `
    sends INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    deferred INTEGER NOT NULL,
    bounced INTEGER NOT NULL,
    unknown_users INTEGER NOT NULL,
    reported_invalid INTEGER NOT NULL,
    complaints INTEGER NOT NULL,
    unsubscribes INTEGER NOT NULL`;

export const enforcementSchema = `
  ALTER TABLE member ADD COLUMN state_at INTEGER;   -- Unix ms of the last change of the state; null: never

  -- The newest event of each outbox that is stored and counted, in one commit with it.
  CREATE TABLE event_position (
    outbox INTEGER PRIMARY KEY,
    id INTEGER NOT NULL,
    syncs INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  INSERT INTO event_position (outbox, id) SELECT (id >> 7) & 15, max(id) FROM event GROUP BY 1;

  CREATE TABLE rate_minute (
    did TEXT NOT NULL,
    minute INTEGER NOT NULL,        -- Unix ms / 60,000
    domain TEXT NOT NULL,           -- '' where the event names none
    provider TEXT NOT NULL,         -- the MX site; '' for what happens before a try
    ${counters},
    PRIMARY KEY (did, minute, domain, provider)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX rate_minute_by_age ON rate_minute (minute);

  CREATE TABLE rate_day (
    did TEXT NOT NULL,
    day INTEGER NOT NULL,           -- Unix ms / 86,400,000
    domain TEXT NOT NULL,
    provider TEXT NOT NULL,
    ${counters},
    PRIMARY KEY (did, day, domain, provider)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX rate_day_by_age ON rate_day (day);

  CREATE TABLE rate_total (
    did TEXT NOT NULL,
    domain TEXT NOT NULL,
    ${counters},
    PRIMARY KEY (did, domain)
  ) STRICT, WITHOUT ROWID;
  CREATE TRIGGER member_gone AFTER DELETE ON member BEGIN
    DELETE FROM rate_minute WHERE did = OLD.did;
    DELETE FROM rate_day WHERE did = OLD.did;
    DELETE FROM rate_total WHERE did = OLD.did;
    DELETE FROM counted_recipient WHERE did = OLD.did;
  END;

  -- Recipients that were counted once and are not counted again for some days.
  CREATE TABLE counted_recipient (
    did TEXT NOT NULL,
    kind TEXT NOT NULL,             -- 'invalid' | 'complaint'
    hash BLOB NOT NULL,
    at INTEGER NOT NULL,            -- Unix ms
    PRIMARY KEY (did, kind, hash)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX counted_recipient_by_age ON counted_recipient (at);

  -- Members whose open mail does not follow their standing yet. Whoever changes a state, the queue follows.
  CREATE TABLE standing_work (
    did TEXT PRIMARY KEY,
    due_at INTEGER NOT NULL,        -- Unix ms; 0 = at once
    passes INTEGER NOT NULL         -- still to do
  ) STRICT;
  CREATE TRIGGER standing_changed AFTER UPDATE OF state ON member
  WHEN (OLD.state IN ('held', 'suspended', 'removed')) <> (NEW.state IN ('held', 'suspended', 'removed')) BEGIN
    INSERT INTO standing_work (did, due_at, passes) VALUES (NEW.did, 0, 2)
      ON CONFLICT (did) DO UPDATE SET due_at = 0, passes = 2;
  END;
  CREATE INDEX member_until ON member (state_until) WHERE state_until IS NOT NULL;
`;

export const noticeSchema = `
  ALTER TABLE member ADD COLUMN person_at INTEGER;  -- Unix ms at which a person last acted on the state
  UPDATE member SET person_at = state_at WHERE state_by = 'person';

  -- Windows go by the time of an event; its id may have run ahead of a clock that was put back.
  DROP INDEX event_by_member;
  CREATE INDEX event_by_member ON event (did, at);
  CREATE INDEX event_by_age ON event (at);

  -- What the operator is to be told, in the commit of the event that it tells of.
  CREATE TABLE operator_notice (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,            -- Unix ms
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    sent_at INTEGER                 -- null: still to be sent
  ) STRICT;
  CREATE INDEX operator_notice_unsent ON operator_notice (id) WHERE sent_at IS NULL;
`;

/** Syncs of the disk are no commits any more (event-log.ts). */
export const positionSchema = 'ALTER TABLE event_position DROP COLUMN syncs;';

/** With migration 9. */
export const sentRecipientSchema = `
  -- Who got a member's mail, for clean-sender: a day's first recipients (node/enforcement/sent-recipients.ts).
  CREATE TABLE sent_recipient (
    did TEXT NOT NULL,
    domain TEXT NOT NULL,
    day INTEGER NOT NULL,           -- Unix ms / 86,400,000
    recipient BLOB NOT NULL,        -- a keyed hash of the address
    at_domain TEXT NOT NULL,
    sends INTEGER NOT NULL,
    PRIMARY KEY (did, domain, day, recipient)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX sent_recipient_by_age ON sent_recipient (day);
  CREATE TRIGGER member_gone_recipients AFTER DELETE ON member BEGIN
    DELETE FROM sent_recipient WHERE did = OLD.did;
  END;
`;
