/** Tables of the suppression list in node.db. */
export const suppressionSchema = `
  -- One row for each reason: a bounce that ends after 30 days must not take an unsubscribe with it.
  CREATE TABLE suppression (
    did TEXT NOT NULL,
    address TEXT NOT NULL,          -- lower case
    reason TEXT NOT NULL,           -- 'unsubscribe' | 'bounce' | 'manual' | 'complaint'
    evidence TEXT NOT NULL,         -- for the member's eyes: the peer's reply, who pressed what
    message_id TEXT,
    created_at INTEGER NOT NULL,    -- Unix ms
    expires_at INTEGER,             -- Unix ms; NULL: never
    PRIMARY KEY (did, address, reason)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX suppression_ends ON suppression (expires_at) WHERE expires_at IS NOT NULL;
`;
