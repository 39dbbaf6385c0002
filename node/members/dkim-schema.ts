/** What rotation adds to the table of DKIM keys in node.db. */
export const dkimRotationSchema = `
  -- Unix ms from which on the key signs; NULL: published, and signs nothing yet. Older rows sign already.
  ALTER TABLE dkim_key ADD COLUMN active_at INTEGER DEFAULT 0;
`;
