/** Tables of contacts and their confirmation in node.db. */
export const contactSchema = `
  ALTER TABLE member ADD COLUMN contact TEXT;
  ALTER TABLE member ADD COLUMN contact_confirmed_at INTEGER;   -- Unix ms

  -- What waits for the owner of an address: one row for each thing that can be confirmed.
  CREATE TABLE confirmation (
    did TEXT NOT NULL REFERENCES member (did),
    domain TEXT NOT NULL,           -- of the forward-to; '' for the member's contact
    address TEXT NOT NULL,
    token_hash BLOB NOT NULL,       -- SHA-256; the token itself stands in the mail alone
    asked_at INTEGER NOT NULL,      -- Unix ms
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (did, domain)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX confirmation_by_token ON confirmation (token_hash);

  -- Confirmation mails of the last day, so that nobody is flooded through us.
  CREATE TABLE confirmation_mail (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,            -- Unix ms
    did TEXT NOT NULL,
    mailbox TEXT NOT NULL           -- lower case, without a +tag
  ) STRICT;
  CREATE INDEX confirmation_mail_by_member ON confirmation_mail (did, at);
  CREATE INDEX confirmation_mail_by_mailbox ON confirmation_mail (mailbox, at);
`;
