/**
 * Addresses that get mail from us, and the proof that their owners want it.
 *
 * Promise: a forward-to or contact counts only once somebody used the token that was mailed to that very
 * address. The confirmed address before it stays in force until then, so a typing error loses no bounce;
 * taking an address away acts at once. A token is 32 random bytes of which only the hash is kept, good for
 * seven days and one use, and a new request replaces the one before. A member asks for at most ten mails a day,
 * a mailbox gets at most three, whoever asks. Composing and sending them is relay/own-mail.ts's business.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type Database, transaction } from '../../appview/database.ts';

/** What an address is for: the bounces of a domain, or notices to the member. */
export type Purpose = { kind: 'forward-to'; domain: string } | { kind: 'contact' };

export type AddressState = {
  /** In force: its owner confirmed it. */
  confirmed: string | null;
  /** Waits for its owner. */
  pending: string | null;
};

export type Pending = { did: string; purpose: Purpose; address: string; expiresAt: number };

export type Asked =
  /** To be mailed to the address, and nowhere else. */
  | { kind: 'asked'; token: string; expiresAt: number }
  /** It was confirmed before; whatever waited is dropped. */
  | { kind: 'confirmed' }
  /** No mail may be sent now. `retryAt` in Unix ms. */
  | { kind: 'too-many'; whose: 'member' | 'mailbox'; retryAt: number };

export type ContactsOptions = {
  /** node.db. */
  db: Database.Database;
  now: () => number;
  /** Confirmation mails in any 24 h. Default 10. */
  perMember?: number;
  /** Default 3. */
  perMailbox?: number;
};

const dayMs = 86_400_000;
const tokenLifeMs = 7 * dayMs;
const tokenShape = /^[A-Za-z0-9_-]{43}$/;

type Statement = Database.Statement<unknown[]>;

export class Contacts {
  readonly #options: Required<ContactsOptions>;
  readonly #forwardTo: Statement;
  readonly #contact: Statement;
  readonly #forBounces: Statement;
  readonly #setForwardTo: Statement;
  readonly #setContact: Statement;
  readonly #pendingOf: Statement;
  readonly #byToken: Statement;
  readonly #put: Statement;
  readonly #drop: Statement;
  readonly #dropToken: Statement;
  readonly #mailsOf: Statement;
  readonly #mailsTo: Statement;
  readonly #mailed: Statement;
  readonly #forget: Statement;

  constructor(options: ContactsOptions) {
    this.#options = { perMember: 10, perMailbox: 3, ...options };
    const { db } = options;
    this.#forwardTo = db.prepare(
      `SELECT forward_to AS address FROM domain
       WHERE name = ? AND did = ? AND forward_to_confirmed_at IS NOT NULL`,
    );
    this.#contact = db.prepare(
      'SELECT contact AS address FROM member WHERE did = ? AND contact_confirmed_at IS NOT NULL',
    );
    this.#forBounces = db.prepare(
      `SELECT iif(d.forward_to_confirmed_at IS NULL, NULL, d.forward_to) AS forwardTo,
              iif(m.contact_confirmed_at IS NULL, NULL, m.contact) AS contact
       FROM domain d JOIN member m ON m.did = d.did WHERE d.name = ? AND d.did = ?`,
    );
    this.#setForwardTo = db.prepare(
      'UPDATE domain SET forward_to = ?, forward_to_confirmed_at = ? WHERE name = ? AND did = ?',
    );
    this.#setContact = db.prepare('UPDATE member SET contact = ?, contact_confirmed_at = ? WHERE did = ?');
    const select = `SELECT did, domain, address, expires_at AS expiresAt FROM confirmation`;
    this.#pendingOf = db.prepare(`${select} WHERE did = ? AND domain = ? AND expires_at > ?`);
    this.#byToken = db.prepare(`${select} WHERE token_hash = ? AND expires_at > ?`);
    this.#put = db.prepare(
      `INSERT OR REPLACE INTO confirmation (did, domain, address, token_hash, asked_at, expires_at)
       VALUES (?, ?, ?, ?, ?, ?)`,
    );
    this.#drop = db.prepare('DELETE FROM confirmation WHERE did = ? AND domain = ?');
    this.#dropToken = db.prepare('DELETE FROM confirmation WHERE token_hash = ?');
    const times = 'SELECT at FROM confirmation_mail WHERE';
    this.#mailsOf = db.prepare(`${times} did = ? AND at > ? ORDER BY at`);
    this.#mailsTo = db.prepare(`${times} mailbox = ? AND at > ? ORDER BY at`);
    this.#mailed = db.prepare('INSERT INTO confirmation_mail (at, did, mailbox) VALUES (?, ?, ?)');
    this.#forget = db.prepare('DELETE FROM confirmation_mail WHERE at <= ?');
  }

  state(did: string, purpose: Purpose): AddressState {
    return { confirmed: this.#confirmed(did, purpose) ?? null, pending: this.#pending(did, purpose) ?? null };
  }

  /**
   * Where a DSN about this member's mail from the domain goes: its forward-to, else the member's contact.
   * Nowhere when the domain went to another member since.
   */
  forBounces(domain: string, did: string): string | undefined {
    const row = this.#forBounces.get(domain, did) as
      | Record<'forwardTo' | 'contact', string | null>
      | undefined;
    return row?.forwardTo ?? row?.contact ?? undefined;
  }

  /**
   * The member names an address.
   *
   * @param address well-formed, its domain as A-labels
   * @throws RangeError when the domain is not this member's
   */
  ask(did: string, purpose: Purpose, address: string): Asked {
    return transaction(this.#options.db, () => {
      if (this.#confirmed(did, purpose) === address) {
        this.#drop.run(did, domainOf(purpose));
        return { kind: 'confirmed' };
      }
      const refused = this.#mayMail(did, mailboxOf(address));
      if (refused) return refused;
      const now = this.#options.now();
      const token = randomBytes(32).toString('base64url');
      const expiresAt = now + tokenLifeMs;
      this.#mailed.run(now, did, mailboxOf(address));
      this.#put.run(did, domainOf(purpose), address, hashOf(token), now, expiresAt);
      return { kind: 'asked', token, expiresAt };
    });
  }

  /** No address any more, at once; what waited is dropped too. */
  clear(did: string, purpose: Purpose): void {
    transaction(this.#options.db, () => {
      this.#drop.run(did, domainOf(purpose));
      this.#set(did, purpose, null);
    });
  }

  /** Its mail could not be sent. A later request, which has a token of its own, stays. */
  withdraw(token: string): void {
    this.#dropToken.run([hashOf(token)]);
  }

  /**
   * Without the word of the owner: for a sandbox alone, where no mail leaves the machine.
   *
   * @throws RangeError when the domain, or the DID, is not enrolled
   */
  confirmNow(did: string, purpose: Purpose, address: string): void {
    transaction(this.#options.db, () => {
      this.#drop.run(did, domainOf(purpose));
      if (!this.#set(did, purpose, address))
        throw new RangeError(`${domainOf(purpose) || did} is not enrolled`);
    });
  }

  /** What a token would confirm; looking changes nothing. */
  look(token: string): Pending | undefined {
    if (!tokenShape.test(token)) return undefined;
    const row = this.#byToken.get(hashOf(token), this.#options.now()) as PendingRow | undefined;
    return row && toPending(row);
  }

  /** @returns what is in force now; undefined for a token that is unknown, old or used */
  confirm(token: string): Pending | undefined {
    return transaction(this.#options.db, () => {
      const pending = this.look(token);
      if (!pending) return undefined;
      this.#drop.run(pending.did, domainOf(pending.purpose));
      // The domain may have gone to another member since.
      return this.#set(pending.did, pending.purpose, pending.address) ? pending : undefined;
    });
  }

  #confirmed(did: string, purpose: Purpose): string | undefined {
    const row = (
      purpose.kind === 'contact' ? this.#contact.get(did) : this.#forwardTo.get(purpose.domain, did)
    ) as { address: string | null } | undefined;
    return row?.address ?? undefined;
  }

  #pending(did: string, purpose: Purpose): string | undefined {
    const row = this.#pendingOf.get(did, domainOf(purpose), this.#options.now()) as PendingRow | undefined;
    return row?.address;
  }

  #set(did: string, purpose: Purpose, address: string | null): boolean {
    const at = address === null ? null : this.#options.now();
    const { changes } =
      purpose.kind === 'contact'
        ? this.#setContact.run(address, at, did)
        : this.#setForwardTo.run(address, at, purpose.domain, did);
    return changes === 1;
  }

  #mayMail(did: string, mailbox: string): Extract<Asked, { kind: 'too-many' }> | undefined {
    const { now, perMember, perMailbox } = this.#options;
    const since = now() - dayMs;
    this.#forget.run(since);
    const own = this.#mailsOf.all(did, since) as { at: number }[];
    const theirs = this.#mailsTo.all(mailbox, since) as { at: number }[];
    const retryAt = (mails: { at: number }[], limit: number) => mails.at(-limit)!.at + dayMs;
    if (own.length >= perMember)
      return { kind: 'too-many', whose: 'member', retryAt: retryAt(own, perMember) };
    if (theirs.length >= perMailbox)
      return { kind: 'too-many', whose: 'mailbox', retryAt: retryAt(theirs, perMailbox) };
    return undefined;
  }
}

type PendingRow = { did: string; domain: string; address: string; expiresAt: number };

function toPending({ did, domain, address, expiresAt }: PendingRow): Pending {
  const purpose: Purpose = domain === '' ? { kind: 'contact' } : { kind: 'forward-to', domain };
  return { did, purpose, address, expiresAt };
}

function domainOf(purpose: Purpose): string {
  return purpose.kind === 'contact' ? '' : purpose.domain;
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** `Ann+shop@reef.test` and `ann@reef.test` are one person's, nearly everywhere. */
function mailboxOf(address: string): string {
  const at = address.lastIndexOf('@');
  const local = address.slice(0, at).toLowerCase();
  return `${local.replace(/(?<=.)\+.*$/, '')}${address.slice(at).toLowerCase()}`;
}
