/** The schemas of appview.db (rebuilt from the network at will) and ledger.db (in the backup, never rebuilt). */
import type { Migration } from './database.ts';

export const appviewMigrations: readonly Migration[] = [
  {
    number: 1,
    name: 'attestations, labels, listings',
    sql: `
      -- Where we are in each firehose; moved in the same transaction as what was read.
      CREATE TABLE firehose_cursor (
        source TEXT PRIMARY KEY,
        seq INTEGER NOT NULL
      ) STRICT;

      -- Accounts that ever had an attestation here.
      CREATE TABLE account (
        did TEXT PRIMARY KEY,
        status TEXT NOT NULL,           -- 'active', or the firehose's word: deactivated, deleted, suspended, takendown, …
        status_at INTEGER,              -- Unix ms, by the source's clock; an older word changes nothing
        rev TEXT                        -- the newest commit applied from a firehose; an older one changes nothing
      ) STRICT;

      CREATE TABLE attestation (
        did TEXT NOT NULL,
        rkey TEXT NOT NULL,             -- equals domain: other records count as absent and are not here
        uri TEXT NOT NULL UNIQUE,
        cid TEXT NOT NULL,
        rev TEXT NOT NULL,
        record TEXT NOT NULL,           -- JSON
        indexed_at INTEGER NOT NULL,    -- Unix ms
        PRIMARY KEY (did, rkey)
      ) STRICT;
      CREATE INDEX attestation_by_domain ON attestation (rkey);

      -- Records to be proved anew at their PDS, because the firehose could not prove them.
      CREATE TABLE recheck (
        did TEXT NOT NULL,
        rkey TEXT NOT NULL,
        tries INTEGER NOT NULL,
        due_at INTEGER NOT NULL,        -- Unix ms
        PRIMARY KEY (did, rkey)
      ) STRICT;
      CREATE INDEX recheck_due ON recheck (due_at);

      CREATE TABLE label_cursor (
        src TEXT PRIMARY KEY,
        seq INTEGER NOT NULL
      ) STRICT;

      -- The current label of each (src, uri, val), exactly as its issuer signed it.
      CREATE TABLE label (
        src TEXT NOT NULL,
        uri TEXT NOT NULL,
        val TEXT NOT NULL,
        neg INTEGER NOT NULL,
        ordered_at INTEGER NOT NULL,    -- Unix ms of the cts, as far as it may decide which label is the latest
        expires_at INTEGER,             -- Unix ms of the exp
        domain TEXT,                    -- the record key, where uri is an attestation's
        body BLOB NOT NULL,             -- DAG-CBOR of the whole label, sig included
        received_at INTEGER NOT NULL,   -- Unix ms
        PRIMARY KEY (src, uri, val)
      ) STRICT;
      CREATE INDEX label_by_uri ON label (uri);
      CREATE INDEX label_by_domain ON label (domain) WHERE domain IS NOT NULL;

      -- One row a name, kept after removal so that a follower learns of it.
      CREATE TABLE listing (
        name TEXT PRIMARY KEY,          -- 'dom:<domain>'
        seq INTEGER NOT NULL UNIQUE,
        removed INTEGER NOT NULL,
        body TEXT NOT NULL              -- JSON of the Listing
      ) STRICT;

      -- The seq behind which this database's listings begin; one row. A follower whose cursor is older
      -- followed an AppView that was thrown away since.
      CREATE TABLE listing_epoch (
        seq INTEGER NOT NULL
      ) STRICT;
    `,
  },
  {
    number: 2,
    name: 'since when an account is hidden, votes by their issuer',
    sql: `
      -- Unix ms by our own clock: the word of a source about an account is unsigned, its time too.
      ALTER TABLE account ADD COLUMN inactive_since INTEGER;
      ALTER TABLE account ADD COLUMN deleted_since INTEGER;
      UPDATE account SET inactive_since = unixepoch() * 1000 WHERE status <> 'active';
      UPDATE account SET deleted_since = unixepoch() * 1000 WHERE status = 'deleted';

      -- A decision reads the labels of the roots on one domain, however many others put there.
      DROP INDEX label_by_domain;
      CREATE INDEX label_by_domain ON label (domain, src) WHERE domain IS NOT NULL;
    `,
  },
  {
    number: 3,
    name: 'keys, quarantine and reconciling of issuers',
    sql: `
      -- Unix ms: since when the issuer serves it no more, though no negation came.
      ALTER TABLE label ADD COLUMN gone_at INTEGER;

      -- What is known of an issuer beside its labels. Times are Unix ms.
      CREATE TABLE label_issuer (
        src TEXT PRIMARY KEY,
        trusted_key TEXT,               -- did:key under which its labels count
        new_key TEXT,                   -- did:key that its document names now and that does not count yet
        new_key_seen_at INTEGER,
        new_key_counts_from INTEGER,
        quarantined_at INTEGER,
        quarantine_reason TEXT,
        quarantine_detail TEXT,
        reconciled_at INTEGER,          -- end of the last complete walk through what it serves
        reconcile_due_at INTEGER
      ) STRICT;

      -- The latest label of each (src, uri, val) under a key that does not count yet, as its issuer signed it.
      CREATE TABLE waiting_label (
        src TEXT NOT NULL,
        uri TEXT NOT NULL,
        val TEXT NOT NULL,
        ordered_at INTEGER NOT NULL,    -- as in label
        body BLOB NOT NULL,
        PRIMARY KEY (src, uri, val)
      ) STRICT;
    `,
  },
];

export const ledgerMigrations: readonly Migration[] = [
  {
    number: 1,
    name: 'first sights',
    sql: `
      -- When we first saw each label's unbroken chain. Ages come from here, never from a cts alone.
      CREATE TABLE first_sight (
        src TEXT NOT NULL,
        uri TEXT NOT NULL,
        val TEXT NOT NULL,
        at INTEGER NOT NULL,            -- Unix ms
        latest_at INTEGER NOT NULL,     -- Unix ms: order of the chain's newest label, so that a replay is known as one
        expires_at INTEGER,             -- Unix ms: exp of that label
        PRIMARY KEY (src, uri, val)
      ) STRICT;
    `,
  },
  {
    number: 2,
    name: 'serial of the zone',
    sql: `
      -- One row: no serial of the DNS zone up to this one is handed out again.
      CREATE TABLE zone_serial (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        serial INTEGER NOT NULL
      ) STRICT;
    `,
  },
  {
    number: 3,
    name: 'private signals',
    sql: `
      -- The latest signal of each (src, uri, val), as its issuer signed it. Times are Unix ms.
      CREATE TABLE signal (
        src TEXT NOT NULL,
        uri TEXT NOT NULL,
        val TEXT NOT NULL,
        did TEXT NOT NULL,              -- the account that uri names
        domain TEXT,                    -- of an attestation's URI
        neg INTEGER NOT NULL,
        made_at INTEGER NOT NULL,       -- its cts, and never ahead of our clock
        expires_at INTEGER,
        received_at INTEGER NOT NULL,   -- since when it is in force here
        counted_at INTEGER NOT NULL,    -- when it counts as made, for the limit on suspensions
        told INTEGER NOT NULL DEFAULT 0,
        body BLOB NOT NULL,             -- DAG-CBOR, signatures included
        PRIMARY KEY (src, uri, val)
      ) STRICT;
      CREATE INDEX signal_by_did ON signal (did);
      CREATE INDEX signal_by_domain ON signal (domain) WHERE domain IS NOT NULL;
      CREATE INDEX signal_by_count ON signal (src, counted_at);
      CREATE INDEX signal_untold ON signal (received_at) WHERE told = 0;
      CREATE TABLE signal_peer (
        src TEXT PRIMARY KEY,
        cursor INTEGER,                 -- seq of the last frame that was stored
        caught_up_at INTEGER,           -- when we last had read all that it had to say
        quarantine_reason TEXT,
        quarantined_at INTEGER,
        released_at INTEGER
      ) STRICT;
    `,
  },
];
