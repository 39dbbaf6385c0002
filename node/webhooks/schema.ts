/** Tables of webhooks in node.db. */
export const webhookSchema = `
  CREATE TABLE webhook (
    id TEXT PRIMARY KEY,
    did TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    types TEXT NOT NULL,            -- JSON: the event types it wants; [] for all
    secret BLOB NOT NULL,           -- sealed with state/keys/seal.key
    old_secret BLOB,                -- sealed; signs beside the new one until then
    old_secret_until INTEGER,
    created_at INTEGER NOT NULL,    -- Unix ms, as all times here
    failing_since INTEGER,          -- first failure after the last success
    disabled_at INTEGER,
    disabled_reason TEXT
  ) STRICT;
  CREATE INDEX webhook_by_member ON webhook (did, created_at);

  -- What is told to whom. The words come from the event itself, at each try.
  CREATE TABLE webhook_delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    event_id INTEGER NOT NULL,
    type TEXT NOT NULL,
    message_id TEXT,
    state TEXT NOT NULL,            -- 'waiting' | 'delivered' | 'failed'
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER,                -- null unless waiting
    last_at INTEGER,
    status INTEGER,                 -- HTTP, of the last try
    answer TEXT,                    -- the beginning of the answer, or what went wrong
    UNIQUE (webhook_id, event_id)
  ) STRICT;
  CREATE INDEX webhook_delivery_listed ON webhook_delivery (webhook_id, id);
  CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook_id, next_at) WHERE state = 'waiting';
  CREATE INDEX webhook_delivery_done ON webhook_delivery (last_at) WHERE state = 'delivered';
  CREATE INDEX webhook_delivery_by_age ON webhook_delivery (created_at);
`;
