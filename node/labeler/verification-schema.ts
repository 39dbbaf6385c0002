/** Changes of the table `verification` since it was made in ../migrations.ts. */

/** What a silence of DNS does, how often in a row a domain did not pass, and the records it is compared with. */
export const transientSchema = `
  ALTER TABLE verification ADD COLUMN decided_at INTEGER;        -- Unix ms: of the run that decided
  ALTER TABLE verification ADD COLUMN undecided_since INTEGER;   -- Unix ms: since then nobody could say
  ALTER TABLE verification ADD COLUMN note TEXT;                 -- what that silence means for the verdict
  ALTER TABLE verification ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;  -- runs since one passed
  ALTER TABLE verification ADD COLUMN seen TEXT NOT NULL DEFAULT '{}';   -- JSON: records as they were told last
`;
