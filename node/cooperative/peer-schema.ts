/** The peers that commands and pages added, in node.db. Those of the configuration are not here. */
export const peerSchema = `
  CREATE TABLE peer (
    did TEXT PRIMARY KEY,
    stance TEXT NOT NULL,           -- 'guarantee' | 'endorse' | 'hesitate' | 'censure'
    reason TEXT,
    evidence TEXT NOT NULL,         -- JSON: at most 16 links
    declared TEXT,                  -- JSON: name, poolDomain, labeler and labelKey as they were when it was added
    added_at INTEGER NOT NULL,      -- Unix ms
    added_by TEXT NOT NULL,
    changed_at INTEGER NOT NULL,    -- Unix ms
    changed_by TEXT NOT NULL
  ) STRICT;
`;
