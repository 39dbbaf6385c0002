/** The schema of node.db: members, domains, keys, labels issued, evidence, events. */
import type { Migration } from '../appview/database.ts';
import { peerSchema } from './cooperative/peer-schema.ts';
import { repoAccountSchema } from './cooperative/repo-account.ts';
import {
  enforcementSchema,
  noticeSchema,
  positionSchema,
  sentRecipientSchema,
} from './enforcement/schema.ts';
import { currentLabelSchema } from './labeler/schema.ts';
import { transientSchema } from './labeler/verification-schema.ts';
import { contactSchema } from './members/contact-schema.ts';
import { dkimRotationSchema } from './members/dkim-schema.ts';
import { suppressionSchema } from './members/suppression-schema.ts';
import { warmedDaysSchema } from './members/warming-schema.ts';
import { reputationSchema } from './reputation/schema.ts';
import { webhookSchema } from './webhooks/schema.ts';

export const nodeMigrations: readonly Migration[] = [
  {
    number: 1,
    name: 'members, labels, events',
    sql: `
      CREATE TABLE member (
        did TEXT PRIMARY KEY,
        handle TEXT,                    -- lower case; a name for login, not a proof of anything
        state TEXT NOT NULL DEFAULT 'active',
        state_reason TEXT,
        state_until INTEGER,            -- Unix ms
        state_by TEXT NOT NULL DEFAULT 'person',
        tier TEXT NOT NULL DEFAULT 'standard',
        relay INTEGER NOT NULL DEFAULT 1,  -- 0: enrolled for attestation alone
        enrolled_at INTEGER NOT NULL    -- Unix ms
      ) STRICT;
      CREATE INDEX member_by_handle ON member (handle);

      CREATE TABLE domain (
        name TEXT PRIMARY KEY,          -- A-labels, lower case
        did TEXT NOT NULL REFERENCES member (did),
        enrolled_at INTEGER NOT NULL,   -- Unix ms; warming counts from here
        default_category TEXT NOT NULL DEFAULT 'bulk',
        forward_to TEXT,
        forward_to_confirmed_at INTEGER
      ) STRICT;
      CREATE INDEX domain_by_member ON domain (did);

      CREATE TABLE dkim_key (
        domain TEXT NOT NULL REFERENCES domain (name),
        selector TEXT NOT NULL,
        algorithm TEXT NOT NULL,        -- 'rsa' | 'ed25519'
        private_key BLOB NOT NULL,      -- PKCS #8, sealed with state/keys/seal.key
        public_key TEXT NOT NULL,       -- the p= of the DNS record
        created_at INTEGER NOT NULL,
        retired_at INTEGER,
        PRIMARY KEY (domain, selector)
      ) STRICT;

      CREATE TABLE api_key (
        id TEXT PRIMARY KEY,
        did TEXT NOT NULL REFERENCES member (did),
        name TEXT NOT NULL,
        hash TEXT NOT NULL,             -- bcrypt
        default_category TEXT,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
      ) STRICT;
      CREATE INDEX api_key_by_member ON api_key (did);

      -- Labels as issued: an append-only log; the stream and its cursors are this table.
      CREATE TABLE issued_label (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        uri TEXT NOT NULL,
        val TEXT NOT NULL,
        cid TEXT,
        neg INTEGER NOT NULL,
        cts TEXT NOT NULL,
        exp TEXT,
        body BLOB NOT NULL              -- DAG-CBOR, sig included
      ) STRICT;
      CREATE INDEX issued_label_by_uri ON issued_label (uri, val, seq);
      CREATE INDEX issued_label_by_page ON issued_label (uri, seq);   -- the keyset of queryLabels

      -- The DNS verification of each enrolled domain, with its evidence; also the labeler's work list.
      -- Without foreign keys: the row of a domain that left stays until its labels are negated.
      CREATE TABLE verification (
        did TEXT NOT NULL,
        domain TEXT NOT NULL,
        verdict TEXT NOT NULL DEFAULT 'undecided',  -- 'passed' | 'failed' | 'undecided': the last that was decided
        cid TEXT,                       -- the attestation for which that holds
        evidence TEXT NOT NULL DEFAULT '[]',        -- JSON: one entry a check, of the last run
        checked_at INTEGER,             -- Unix ms
        next_at INTEGER NOT NULL,       -- Unix ms; 0 = at once
        PRIMARY KEY (did, domain)
      ) STRICT;
      CREATE INDEX verification_due ON verification (next_at);

      -- Work becomes due in the commit that causes it, whichever process enrols or removes a member.
      CREATE TRIGGER domain_enrolled AFTER INSERT ON domain BEGIN
        INSERT INTO verification (did, domain, next_at) VALUES (NEW.did, NEW.name, 0)
          ON CONFLICT (did, domain) DO UPDATE SET next_at = 0;
      END;
      CREATE TRIGGER domain_left AFTER DELETE ON domain BEGIN
        UPDATE verification SET next_at = 0 WHERE did = OLD.did AND domain = OLD.name;
      END;
      CREATE TRIGGER member_changed AFTER UPDATE OF state, relay ON member BEGIN
        UPDATE verification SET next_at = 0 WHERE did = NEW.did;
      END;

      CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        at INTEGER NOT NULL,
        did TEXT NOT NULL,
        domain TEXT,
        message_id TEXT,
        recipient_id TEXT,
        detail TEXT NOT NULL            -- JSON
      ) STRICT;
      CREATE INDEX event_by_member ON event (did, id);
    `,
  },
  { number: 2, name: 'suppressions', sql: suppressionSchema },
  { number: 3, name: 'contacts and their confirmation', sql: contactSchema },
  { number: 4, name: 'rates and the guard', sql: enforcementSchema },
  { number: 5, name: 'webhooks', sql: webhookSchema },
  { number: 6, name: 'rotation of DKIM keys', sql: dkimRotationSchema },
  { number: 7, name: 'notices to the operator', sql: noticeSchema },
  { number: 8, name: 'positions of the event log without their syncs', sql: positionSchema },
  { number: 9, name: 'labels that stand, and who got mail', sql: currentLabelSchema + sentRecipientSchema },
  { number: 10, name: 'peers', sql: peerSchema },
  { number: 11, name: 'the private channel', sql: reputationSchema + warmedDaysSchema },
  { number: 12, name: 'what a silence of DNS does, and changed records', sql: transientSchema },
  { number: 13, name: 'the account of our repo', sql: repoAccountSchema },
];
