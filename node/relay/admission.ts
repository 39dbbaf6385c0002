/**
 * May this member send this message? The questions, in the order in which a protocol shows the facts.
 *
 * Promise: MAIL FROM, and every address in From, Sender, Resent-From and Resent-Sender, are in domains that
 * this member enrolled. One refused recipient does not refuse the others.
 * Nothing is counted and nothing stored here: caps are counted by the spool in the commit itself.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import type { Standing, StandingOf } from '../enforcement/standing.ts';
import { type ErrorCode, type Problem, problem } from '../errors.ts';
import { type Category, parseCategory } from '../members/category.ts';
import type { Cap } from '../spool/message.ts';
import { type Mailbox, parseAddress, parseMailboxes } from './mailbox.ts';
import { fieldsNamed, fieldValue, type HeaderField, type Message, parseMessage } from './message.ts';
import { domainsShownIn } from './shown-domains.ts';

/** What admission needs of members.ts. */
export type Directory = {
  get(did: string): { relay: boolean } | undefined;
  domain(name: string): { did: string; defaultCategory: Category } | undefined;
};

/** What admission needs of suppressions.ts. */
export type SuppressionList = {
  find(
    did: string,
    address: string,
  ): { reason: 'unsubscribe' | 'bounce' | 'complaint' | 'manual' } | undefined;
};

export type AdmissionOptions = {
  directory: Directory;
  standingOf: StandingOf;
  suppressions: SuppressionList;
  /** The simulator's recipients are at `simulator.<pool domain>`. */
  poolDomain: string;
  /** Octets of one message. Default 25 MiB. */
  maxMessageBytes?: number;
  /** Exempt mail that one who unsubscribed still gets in a day. Default 5. */
  exemptPerRecipient?: number;
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

/** What becomes of one recipient of an admitted message. */
export type Verdict =
  | { kind: 'deliver' }
  | { kind: 'simulate' }
  /** Unsubscribed; exempt mail passes as long as this cap has room. */
  | { kind: 'exempt'; cap: Cap }
  | Refused;

export const simulatorNames = ['delivered', 'bounced', 'deferred', 'complained'] as const;

/** A message that passed this many relays is going round in circles (RFC 5321 §6.3). */
const maxReceived = 50;

const refusedStates: ReadonlyMap<Standing['state'], ErrorCode> = new Map([
  ['held', 'MEMBER_HELD'],
  ['suspended', 'MEMBER_SUSPENDED'],
  ['removed', 'MEMBER_SUSPENDED'],
]);

export class Admission {
  readonly #directory: Directory;
  readonly #standingOf: StandingOf;
  readonly #suppressions: SuppressionList;
  readonly #simulatorDomain: string;
  readonly #maxMessageBytes: number;
  readonly #exemptPerRecipient: number;

  constructor(o: AdmissionOptions) {
    this.#directory = o.directory;
    this.#standingOf = o.standingOf;
    this.#suppressions = o.suppressions;
    this.#simulatorDomain = `simulator.${o.poolDomain}`;
    this.#maxMessageBytes = o.maxMessageBytes ?? 25 * 1024 * 1024;
    this.#exemptPerRecipient = o.exemptPerRecipient ?? 5;
  }

  /** After authentication: may the member send at all? */
  member(did: string): Refused | undefined {
    const member = this.#directory.get(did);
    if (!member?.relay) return refuse('MEMBER_SUSPENDED', 'This account is not enrolled for sending.');
    return refusedStanding(this.#standingOf(did));
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
    if (parsed.domain === this.#simulatorDomain && !isSimulated(parsed.address))
      return refuse('INVALID_RECIPIENT', `The simulator has ${simulatorNames.join('@, ')}@.`);
    return { kind: 'recipient', address: parsed.address };
  }

  /**
   * Is the recipient one that no mail of this member reaches? For RCPT, where the category is not known yet:
   * one that only unsubscribed is taken there.
   *
   * @param address as recipient() gave it
   */
  suppressed(did: string, address: string): Refused | undefined {
    if (this.#isSimulator(address)) return undefined;
    const reason = this.#suppressions.find(did, address)?.reason;
    return reason === undefined || reason === 'unsubscribe' ? undefined : refuseSuppressed(reason, address);
  }

  /** @param recipientId of the recipient of this address, for the cap that counts it alone */
  verdict(
    did: string,
    category: Category,
    { address, recipientId }: { address: string; recipientId: string },
  ): Verdict {
    if (this.#isSimulator(address)) return { kind: 'simulate' };
    const reason = this.#suppressions.find(did, address)?.reason;
    if (reason === undefined) return { kind: 'deliver' };
    const limit = this.#exemptPerRecipient;
    if (reason !== 'unsubscribe' || category === 'bulk' || limit === 0)
      return refuseSuppressed(reason, address);
    const scope = `exempt:${did}:${address.toLowerCase()}`;
    return { kind: 'exempt', cap: { scope, perHour: limit, perDay: limit, burst: limit, only: recipientId } };
  }

  /** @param o.isClean no stray CR, LF or NUL; @param o.category the API's; without it X-Atmos-Category, the key's default, the domain's */
  message(
    principal: { did: string; defaultCategory: Category | null },
    bytes: Buffer,
    o: { smtpUtf8: boolean; isClean?: boolean | undefined; category?: Category | undefined },
  ): Admitted | Refused {
    const { did } = principal;
    const parsed = parseMessage(bytes, o);
    const { message } = parsed;
    const from = this.#from(did, message);
    // Whose message it is comes first, then its size, then how it is written.
    if (from.kind === 'refused' && from.problem.entry.code === 'DOMAIN_MISMATCH') return from;
    if (bytes.length > this.#maxMessageBytes)
      return refuse('MESSAGE_TOO_LARGE', `The limit is ${this.#maxMessageBytes} octets.`);
    const fault = parsed.kind === 'fault' ? parsed.what : headerFault(message, o.smtpUtf8);
    if (fault) return refuse('INVALID_MESSAGE', fault);
    if (from.kind === 'refused') return from;
    const standing = this.#standingOf(did, from.domain);
    const category =
      o.category ??
      categoryOf(message) ??
      principal.defaultCategory ??
      this.#directory.domain(from.domain)!.defaultCategory;
    return (
      refusedStanding(standing) ?? {
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
    const from = this.#originator(did, message, field);
    if (!Array.isArray(from)) return from;
    const senders = fieldsNamed(message.fields, 'sender');
    // RFC 5322 §3.6.2
    if (from.length > 1 && senders.length === 0)
      return refuse('INVALID_MESSAGE', 'From has more than one address, so a Sender header is needed.');
    // What some programs show as "on behalf of" is held to the rule of From; Reply-To may be anybody.
    for (const name of ['sender', 'resent-from', 'resent-sender']) {
      for (const other of fieldsNamed(message.fields, name)) {
        const mailboxes = this.#originator(did, message, other);
        if (!Array.isArray(mailboxes)) return mailboxes;
        if (name !== 'resent-from' && mailboxes.length > 1)
          return refuse('INVALID_MESSAGE', `The ${name} header has more than one address.`);
      }
    }
    return { kind: 'from', domain: from[0]!.domain };
  }

  /** The mailboxes of a header field that says who wrote or sent: all of the member's own domains. */
  #originator(did: string, message: Message, field: HeaderField): Mailbox[] | Refused {
    const name = field.name.replace(/(^|-)[a-z]/g, (start) => start.toUpperCase());
    const mailboxes = parseMailboxes(fieldValue(message, field));
    if (!mailboxes) return refuse('INVALID_MESSAGE', `The ${name} header is not a list of plain mailboxes.`);
    for (const mailbox of mailboxes) {
      const foreign = this.#foreignDomain(did, mailbox);
      if (foreign !== undefined) return refuse('DOMAIN_MISMATCH', `The ${name} header names ${foreign}.`);
    }
    return mailboxes;
  }

  #foreignDomain(did: string, mailbox: Mailbox): string | undefined {
    if (!this.#isOwn(did, mailbox.domain)) return mailbox.domain;
    if (mailbox.text === '') return undefined;
    return domainsShownIn(mailbox.text).find((domain) => !this.#isOwn(did, domain));
  }

  #isOwn(did: string, domain: string): boolean {
    return this.#directory.domain(domain)?.did === did;
  }

  #isSimulator(address: string): boolean {
    return address.endsWith(`@${this.#simulatorDomain}`);
  }
}

function isSimulated(address: string): boolean {
  const name = address.slice(0, address.lastIndexOf('@')).toLowerCase();
  return (simulatorNames as readonly string[]).includes(name);
}

function refusedStanding(standing: Standing): Refused | undefined {
  const code = refusedStates.get(standing.state);
  if (code === undefined) return undefined;
  const until = standing.until === null ? '' : ` Until ${new Date(standing.until).toISOString()}.`;
  return refuse(code, `${standing.state}: ${standing.reason ?? 'no reason was recorded'}.${until}`);
}

const suppressionReasons = {
  unsubscribe: 'unsubscribed from your mail',
  bounce: 'does not exist, as an earlier bounce said',
  complaint: 'complained about your mail',
  manual: "is on the list by your own or an operator's act",
};

function refuseSuppressed(reason: keyof typeof suppressionReasons, address: string): Refused {
  return refuse('RECIPIENT_SUPPRESSED', `${address} ${suppressionReasons[reason]}.`);
}

/** Warming is counted by domain, a tier by member. */
export function capOf({ did, tier, caps }: Standing, domain: string): Cap {
  return { scope: tier === 'warming' ? `domain:${domain}` : did, ...caps };
}

/** A word that we do not know chooses nothing. */
function categoryOf(message: Message): Category | undefined {
  const field = fieldsNamed(message.fields, 'x-atmos-category')[0];
  return field && parseCategory(fieldValue(message, field));
}

/** @returns what is wrong with a header whose fields were all read */
function headerFault({ bytes, fields, headerEnd }: Message, smtpUtf8: boolean): string | undefined {
  if (fieldsNamed(fields, 'received').length > maxReceived)
    return `More than ${maxReceived} Received fields: this is a loop.`;
  return beyondAscii(bytes.subarray(0, headerEnd), smtpUtf8);
}

/** @returns what is wrong with the octets above 127 of a header */
function beyondAscii(header: Buffer, smtpUtf8: boolean): string | undefined {
  if (isAscii(header)) return undefined;
  if (!smtpUtf8) return 'A header beyond ASCII needs SMTPUTF8 (RFC 6531) or encoded words (RFC 2047).';
  // RFC 6532 §3.2. What is not UTF-8 is read in as many ways as there are programs.
  return isUtf8(header) ? undefined : 'The header is not UTF-8.';
}

function refuse(code: ErrorCode, detail?: string): Refused {
  return { kind: 'refused', problem: problem(code, detail) };
}
