/** What rows of the spool hold in JSON, and the columns that several readers share. */
import type { MessageKind, NewMessage, NewRecipient, Notify } from './message.ts';
import type { RecipientState } from './states.ts';

/** Of a message, for people and for the DSN. */
export type MessageDetails = {
  tags?: readonly string[];
  subject?: string;
  ret?: 'full' | 'hdrs';
  envid?: string;
  requireTls?: true;
  sendAt?: number;
  /** All of its recipients are. */
  simulated?: true;
};

/** Where a held recipient goes on, and who holds it; absent: since it was accepted. */
export type Held = { at: number; state: RecipientState; nextAt: number; by?: string };

export type RecipientDetails = {
  notify?: readonly Notify[];
  orcpt?: string;
  simulated?: true;
  lastSource?: string;
  delayNoticed?: true;
  failReason?: string;
  reroute?: string;
  held?: Held;
  /** Ends `cancelled` when the try under way is over without success. */
  cancel?: { by: string; reason: string };
};

/** A recipient with what is needed of its message to move it and to tell of it. */
export type OpenRow = {
  seq: number;
  site: string;
  did: string;
  state: RecipientState;
  next_at: number;
  address: string;
  recipient_domain: string;
  attempts: number;
  records: number;
  paused_ms: number;
  details: string | null;
  queue_id: string;
  kind: MessageKind;
  domain: string;
  size: number;
  open: number;
  in_file: number;
  key_id: string | null;
  category: string | null;
  message_details: string | null;
};

export const openRowColumns = `r.seq, r.site, r.did, r.state, r.next_at, r.address, r.recipient_domain, r.attempts,
  r.records, r.paused_ms, r.details, m.queue_id, m.kind, m.domain, m.size, m.open, m.in_file, m.key_id, m.category,
  m.details AS message_details`;

const maxSubject = 200;

export function messageDetails(m: NewMessage): MessageDetails {
  return {
    ...(m.tags && m.tags.length > 0 && { tags: m.tags }),
    ...(m.subject && { subject: m.subject.slice(0, maxSubject) }),
    ...(m.ret && { ret: m.ret }),
    ...(m.envid !== undefined && { envid: m.envid }),
    ...(m.requireTls && { requireTls: true }),
    ...(m.sendAt !== undefined && { sendAt: m.sendAt }),
    ...(isSimulated(m) && { simulated: true }),
  };
}

/** Simulated as a whole: it counts against nothing that is the member's. */
export function isSimulated({ recipients }: NewMessage): boolean {
  return recipients.every(({ simulated }) => simulated === true);
}

export function recipientDetails(r: NewRecipient): RecipientDetails {
  return {
    ...(r.notify && { notify: r.notify }),
    ...(r.orcpt !== undefined && { orcpt: r.orcpt }),
    ...(r.simulated && { simulated: true }),
  };
}

/** Null where there is nothing to say. */
export function stored(details: object): string | null {
  const text = JSON.stringify(details);
  return text === '{}' ? null : text;
}

export function read<T>(text: string | null): T {
  return (text === null ? {} : JSON.parse(text)) as T;
}
