/**
 * May this member send this message? The questions, in the order in which a protocol shows the facts.
 *
 * Promise: MAIL FROM, and every address in the one From header, are in domains that this member enrolled.
 * Nothing is counted and nothing stored here: caps are counted by the spool in the commit itself.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import type { Standing, StandingOf } from '../enforcement/standing.ts';
import { type Problem, problem } from '../errors.ts';
import { type Category, parseCategory } from '../members/category.ts';
import { normalizeDomain } from '../members/domain-name.ts';
import type { Cap } from '../spool/message.ts';
import { decodeWords } from './encoded-words.ts';
import { type Mailbox, parseAddress, parseMailboxes } from './mailbox.ts';
import { fieldsNamed, fieldValue, type Message, parseMessage } from './message.ts';

/** What admission needs of members.ts. */
export type Directory = {
  get(did: string): { relay: boolean; domains: { name: string }[] } | undefined;
  domain(name: string): { did: string; defaultCategory: Category } | undefined;
};

export type Refused = { kind: 'refused'; problem: Problem };

export type Admitted = {
  kind: 'admitted';
  message: Message;
  /** The domain of the first From address: it chooses DKIM key, warming and forward-to. */
  domain: string;
  category: Category;
  caps: Cap[];
};

/** A message that passed this many relays is going round in circles (RFC 5321 §6.3). */
const maxReceived = 50;

const refusedStates: ReadonlySet<Standing['state']> = new Set(['held', 'suspended', 'removed']);

export class Admission {
  readonly #directory: Directory;
  readonly #standingOf: StandingOf;

  constructor(o: { directory: Directory; standingOf: StandingOf }) {
    this.#directory = o.directory;
    this.#standingOf = o.standingOf;
  }

  /** After authentication: may the member send at all? */
  member(did: string): Refused | undefined {
    const member = this.#directory.get(did);
    if (!member?.relay) return refuse('MEMBER_SUSPENDED', 'This account is not enrolled for sending.');
    const domain = member.domains[0]?.name;
    return domain === undefined ? undefined : this.#refusedStanding(this.#standingOf(did, domain));
  }

  /** @param address of MAIL FROM, '' for the null sender */
  sender(did: string, address: string): Refused | undefined {
    const parsed = parseAddress(address);
    if (!parsed) return refuse('DOMAIN_MISMATCH', 'MAIL FROM has no address of such a domain.');
    if (this.#isOwn(did, parsed.domain)) return undefined;
    return refuse('DOMAIN_MISMATCH', `MAIL FROM names ${parsed.domain}.`);
  }

  /** @returns the address in the form in which it is stored: its domain as A-labels in lower case */
  recipient(address: string, smtpUtf8: boolean): { kind: 'recipient'; address: string } | Refused {
    const parsed = parseAddress(address);
    if (!parsed) return refuse('INVALID_RECIPIENT');
    if (!smtpUtf8 && !isAscii(Buffer.from(parsed.address)))
      return refuse('INVALID_RECIPIENT', 'An address beyond ASCII needs SMTPUTF8.');
    return { kind: 'recipient', address: parsed.address };
  }

  /** @param keyCategory the default of the API key, if it has one */
  message(
    principal: { did: string; defaultCategory: Category | null },
    bytes: Buffer,
    smtpUtf8: boolean,
  ): Admitted | Refused {
    const { did } = principal;
    const parsed = parseMessage(bytes);
    if (parsed.kind === 'fault') return refuse('INVALID_MESSAGE', parsed.what);
    const { message } = parsed;
    const headerFault = beyondAscii(bytes.subarray(0, message.headerEnd), smtpUtf8);
    if (headerFault) return refuse('INVALID_MESSAGE', headerFault);
    if (fieldsNamed(message.fields, 'received').length > maxReceived)
      return refuse('INVALID_MESSAGE', `More than ${maxReceived} Received fields: this is a loop.`);
    const from = this.#from(did, message);
    if (from.kind === 'refused') return from;
    const standing = this.#standingOf(did, from.domain);
    const category =
      categoryOf(message) ??
      principal.defaultCategory ??
      this.#directory.domain(from.domain)!.defaultCategory;
    return (
      this.#refusedStanding(standing) ?? {
        kind: 'admitted',
        message,
        domain: from.domain,
        category,
        caps: [capOf(standing, from.domain)],
      }
    );
  }

  #from(did: string, message: Message): { kind: 'from'; domain: string } | Refused {
    const field = fieldsNamed(message.fields, 'from')[0];
    if (!field) return refuse('INVALID_MESSAGE', 'The From header is missing.');
    const mailboxes = parseMailboxes(fieldValue(message, field));
    if (!mailboxes) return refuse('INVALID_MESSAGE', 'The From header is not a list of plain mailboxes.');
    for (const mailbox of mailboxes) {
      const foreign = this.#foreignDomain(did, mailbox);
      if (foreign !== undefined) return refuse('DOMAIN_MISMATCH', `The From header names ${foreign}.`);
    }
    return { kind: 'from', domain: mailboxes[0]!.domain };
  }

  #foreignDomain(did: string, mailbox: Mailbox): string | undefined {
    if (!this.#isOwn(did, mailbox.domain)) return mailbox.domain;
    // Many mail programs show the name alone: a foreign address there deceives as well as one in the address.
    return domainsShownIn(mailbox.text).find((domain) => !this.#isOwn(did, domain));
  }

  #isOwn(did: string, domain: string): boolean {
    return this.#directory.domain(domain)?.did === did;
  }

  #refusedStanding(standing: Standing): Refused | undefined {
    if (!refusedStates.has(standing.state)) return undefined;
    const until = standing.until === null ? '' : ` Until ${new Date(standing.until).toISOString()}.`;
    return refuse(
      'MEMBER_SUSPENDED',
      `${standing.state}: ${standing.reason ?? 'no reason was recorded'}.${until}`,
    );
  }
}

/** The domains of whatever looks like an address in a display name, as a reader would see it. */
function domainsShownIn(text: string): string[] {
  // NFKC turns look-alikes of `@` and `.` into themselves; format characters are invisible.
  const shown = decodeWords(text)
    .normalize('NFKC')
    .replace(/\p{Cf}/gu, '');
  const matches = shown.matchAll(/@([\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+)/gu);
  return [...matches].flatMap(([, domain]) => normalizeDomain(domain!) ?? []);
}

/** Warming is counted by domain, a tier by member. */
function capOf({ did, tier, caps }: Standing, domain: string): Cap {
  return { scope: tier === 'warming' ? `domain:${domain}` : did, ...caps };
}

/** A word that we do not know chooses nothing. */
function categoryOf(message: Message): Category | undefined {
  const field = fieldsNamed(message.fields, 'x-atmos-category')[0];
  return field && parseCategory(fieldValue(message, field));
}

/** @returns what is wrong with the octets above 127 of a header */
function beyondAscii(header: Buffer, smtpUtf8: boolean): string | undefined {
  if (isAscii(header)) return undefined;
  if (!smtpUtf8) return 'A header beyond ASCII needs SMTPUTF8 (RFC 6531) or encoded words (RFC 2047).';
  // RFC 6532 §3.2. What is not UTF-8 is read in as many ways as there are programs.
  return isUtf8(header) ? undefined : 'The header is not UTF-8.';
}

function refuse(code: Parameters<typeof problem>[0], detail?: string): Refused {
  return { kind: 'refused', problem: problem(code, detail) };
}
