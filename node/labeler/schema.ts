/** Tables of the labeler in node.db that came after the log itself (node/migrations.ts, 1), by migration. */
export const currentLabelSchema = `
  -- The keys that signed the log. A row signed with another one than today's is signed anew when it is read.
  CREATE TABLE label_key (
    id INTEGER PRIMARY KEY,
    did_key TEXT NOT NULL UNIQUE
  ) STRICT;
  ALTER TABLE issued_label ADD COLUMN key INTEGER;    -- label_key.id; null: not known
  DROP INDEX issued_label_by_page;

  -- What stands: the last label of each (uri, val), unless negated. Written in the commit of the log; its
  -- key is the keyset of queryLabels, so a page walks what it gives and nothing else.
  CREATE TABLE current_label (
    uri TEXT NOT NULL,
    seq INTEGER NOT NULL,
    val TEXT NOT NULL,
    cid TEXT,
    exp INTEGER,                    -- Unix ms
    key INTEGER,                    -- as in issued_label
    json TEXT,                      -- as queryLabels gives it; null where the key is
    PRIMARY KEY (uri, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX current_label_by_end ON current_label (exp) WHERE exp IS NOT NULL;
  INSERT INTO current_label (uri, seq, val, cid, exp)
    SELECT uri, seq, val, cid, unixepoch(exp) * 1000 FROM issued_label AS l
    WHERE neg = 0 AND NOT EXISTS (
      SELECT 1 FROM issued_label AS later WHERE later.uri = l.uri AND later.val = l.val AND later.seq > l.seq);

  -- What stands no more: superseded, negated, expired, and negations themselves. Kept for late readers.
  CREATE TABLE past_label (
    since INTEGER NOT NULL,         -- Unix ms
    seq INTEGER NOT NULL,
    PRIMARY KEY (since, seq)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO past_label (since, seq)
    SELECT coalesce(unixepoch(cts), 0) * 1000, seq FROM issued_label
    WHERE seq NOT IN (SELECT seq FROM current_label);
  CREATE TABLE label_history (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pruned_through INTEGER NOT NULL -- the greatest seq that was removed
  ) STRICT;
  INSERT INTO label_history (id, pruned_through) VALUES (1, 0);
`;
