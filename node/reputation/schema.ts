/** Tables of the private channel in node.db (node/migrations.ts, 11). */
export const reputationSchema = `
  -- Standings that changed, in the commit of the change, until their signals are signed.
  CREATE TABLE reputation_due (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    did TEXT NOT NULL,
    val TEXT,                       -- the signal that is in force from now on; null: none
    until INTEGER,                  -- Unix ms; null: until somebody ends it
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL
  ) STRICT;

  -- The latest signal of each (uri, val), in the order in which they came: the stream is this table, so who
  -- reads it slowly, or late, finds the newest state of everything and no backlog.
  CREATE TABLE issued_signal (
    uri TEXT NOT NULL,
    val TEXT NOT NULL,
    did TEXT NOT NULL,
    domain TEXT,
    seq INTEGER NOT NULL UNIQUE,
    neg INTEGER NOT NULL,
    cts INTEGER NOT NULL,           -- Unix ms
    exp INTEGER,                    -- Unix ms
    key TEXT NOT NULL,              -- did:key that signed; another one than today's: signed anew when it is read
    body BLOB NOT NULL,             -- DAG-CBOR, signatures included
    PRIMARY KEY (uri, val)
  ) STRICT;
  CREATE INDEX issued_signal_by_did ON issued_signal (did);
`;
