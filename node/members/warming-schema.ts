/** Of a domain, in node.db (node/migrations.ts, 11). */
export const warmedDaysSchema = `
  -- Days of warming that a domain was given for what a trusted peer said of it.
  ALTER TABLE domain ADD COLUMN warmed_days INTEGER NOT NULL DEFAULT 0;
`;
