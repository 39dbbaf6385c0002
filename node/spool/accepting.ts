/** How a message enters: everything that its acceptance means, in the transaction of the caller. */
import type { Database } from '../../appview/database.ts';
import { free, joined } from '../freeing.ts';
import { isDueAlone } from './at-once.ts';
import type { Bodies } from './bodies.ts';
import type { Reached } from './crash.ts';
import type { Effects } from './effects.ts';
import type { Content, Fresh } from './fresh.ts';
import type { Answers } from './idempotency.ts';
import { partsOf, recipientsPerMessage } from './ids.ts';
import {
  type Batch,
  type BatchAccepted,
  type BatchItem,
  type BatchOutcome,
  type Cap,
  domainOf,
  maxBodyInRow,
  type NewMessage,
  type NewRecipient,
} from './message.ts';
import type { Outbox } from './outbox.ts';
import type { AcceptAnswer } from './protocol.ts';
import { type Charged, chargedFor, type QueueQuotas } from './quotas.ts';
import type { Recipients } from './recipients.ts';
import { isSimulated, messageDetails, type RecipientDetails, recipientDetails, stored } from './rows.ts';
import { heldAt } from './schema.ts';
import type { Settling } from './settling.ts';
import type { Sites } from './sites.ts';
import type { RecipientState } from './states.ts';
import type { Usage } from './usage.ts';

const noBody = Buffer.alloc(0);
const noLines: Pick<NewRecipient, 'signatures' | 'prefix'> = { signatures: noBody, prefix: noBody };

type Statement = Database.Statement<unknown[]>;
type Entry = { state: RecipientState; nextAt: number; pausedMs: number; details: RecipientDetails };

export type Parts = {
  db: Database.Database;
  bodies: Bodies;
  effects: Effects;
  fresh: Fresh;
  usage: Usage;
  quotas: QueueQuotas;
  answers: Answers;
  sites: Sites;
  outbox: Outbox;
  recipients: Recipients;
  settling: Settling;
  reached: Reached;
};

export class Accepting {
  readonly #parts: Parts;
  readonly #exists: Statement;
  readonly #insertMessage: Statement;
  readonly #insertLines: Statement;
  readonly #insertRecipient: Statement;
  /** Of the newest message; a transaction that failed leaves a gap. */
  #seq: number;

  constructor(parts: Parts) {
    this.#parts = parts;
    const { db } = parts;
    this.#exists = db.prepare('SELECT 1 AS found FROM message WHERE queue_id = ?');
    this.#insertMessage = db.prepare(`
      INSERT INTO message (seq, queue_id, kind, did, domain, via, mail_from, received_at, expires_at,
        size, in_file, open, key_id, category, details)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#insertLines = db.prepare('INSERT INTO content (seq, bytes, split, body_at) VALUES (?, ?, ?, ?)');
    this.#insertRecipient = db.prepare(`
      INSERT INTO recipient (seq, site, did, next_at, state, address, recipient_domain, return_path,
        signed_at, attempts, records, paused_ms, details)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)`);
    const { last } = db.prepare('SELECT COALESCE(MAX(seq), 0) AS last FROM message').get() as {
      last: number;
    };
    this.#seq = last;
  }

  accept(message: NewMessage, wanted: boolean, at: number): AcceptAnswer {
    const { did, idempotency } = message;
    const known = idempotency && this.#parts.answers.find(did, idempotency.key, idempotency.fingerprint, at);
    if (known) return known;
    const usedUp = this.#usedUp([message], at);
    if (usedUp.length > 0) return { kind: 'used-up', caps: usedUp };
    const accepted: AcceptAnswer = this.#take(message, at);
    if (accepted.kind === 'committed' && idempotency) {
      const { key, fingerprint, answer } = idempotency;
      this.#parts.answers.store(did, key, fingerprint, answer, at);
    }
    if (wanted && accepted.kind === 'committed')
      this.#parts.effects.waiting.at(-1)!.wanted = { message, answer: accepted };
    return accepted;
  }

  batch({ did, items, idempotency }: Batch, at: number): BatchAccepted {
    const { answers: kept } = this.#parts;
    const known = idempotency && kept.find(did, idempotency.key, idempotency.fingerprint, at);
    if (known?.kind === 'key-reused') return known;
    if (known) return { kind: 'repeated', answers: JSON.parse(known.answer) as string[] };
    const messages = items.flatMap((item) => ('message' in item ? [item.message] : []));
    const usedUp = this.#usedUp(messages, at);
    if (usedUp.length > 0) return { kind: 'used-up', caps: usedUp };
    const outcomes = items.map((item) => ('message' in item ? this.#take(item.message, at) : undefined));
    const answers = items.map((item, index) => answerTo(item, outcomes[index]));
    if (idempotency) kept.store(did, idempotency.key, idempotency.fingerprint, JSON.stringify(answers), at);
    return { kind: 'done', answers, outcomes };
  }

  /** Our own mail, which follows from something: no cap and no quota stops it. */
  insert(m: NewMessage, at: number): void {
    if (m.recipients.length === 0) throw new Error(`message ${m.queueId} has no recipient`);
    const { quotas, effects } = this.#parts;
    const inFile = m.body.length > maxBodyInRow;
    if (inFile) this.#writeBodyFile(m);
    const seq = ++this.#seq;
    const first = seq * recipientsPerMessage;
    const { queueId, kind, did, domain, via, mailFrom, receivedAt, expiresAt } = m;
    this.#insertMessage.run([
      ...[seq, queueId, kind, did, domain, via, mailFrom, receivedAt, expiresAt],
      ...[m.body.length, inFile ? 1 : 0, m.recipients.length],
      ...[m.keyId ?? null, m.category ?? null, stored(messageDetails(m))],
    ]);
    quotas.entered(chargedOf(m), m.body.length);
    this.#insertContents(m, first, inFile ? noBody : m.body);
    for (const recipient of m.recipients) {
      const entry = entryOf(m, recipient, at);
      const row = { seq: first + numberIn(m, recipient), domain: domainOf(recipient.address) };
      const site = this.#parts.sites.of(row.domain);
      this.#insertOne(m, recipient, { ...row, site }, entry);
      if (m.kind === 'mail') this.#tell(m, recipient, row.domain, entry.state, at);
      if (!recipient.refused) effects.waiting.push({ site, did, seq: row.seq, at: entry.nextAt });
    }
    for (const { id, refused } of m.recipients) if (refused) this.#refuse(id, refused, at);
    for (const notice of m.notices ?? []) this.insert(notice, at);
  }

  /**
   * Caps of single recipients without room, as if every message were taken that the other caps let through.
   *
   * Found before anything is stored, all at once: so a message, or a batch of them, is offered twice at most.
   */
  #usedUp(messages: readonly NewMessage[], at: number): Cap[] {
    const { usage } = this.#parts;
    const asked = new Map<string, number>();
    return messages.flatMap((message) => {
      if (!message.caps.some(({ only }) => only !== undefined)) return [];
      const counted = countedOf(message);
      const own = message.caps.filter(({ only }) => only !== undefined && counted.includes(only));
      const others = message.caps.filter(({ only }) => only === undefined);
      if (own.length === 0 || usage.exceeded(others, counted, at)) return [];
      return own.filter((cap) => {
        const wanted = (asked.get(cap.scope) ?? 0) + 1;
        if (usage.retryAt(cap, wanted, at) !== undefined) return true;
        asked.set(cap.scope, wanted);
        return false;
      });
    });
  }

  #take(message: NewMessage, at: number): BatchOutcome {
    const { usage, quotas } = this.#parts;
    const counted = countedOf(message);
    const over = usage.exceeded(message.caps, counted, at);
    if (over) return { kind: 'over-cap', ...over };
    const whose = message.kind === 'mail' ? quotas.full(chargedOf(message), message.body.length) : undefined;
    if (whose) return { kind: 'queue-full', whose };
    this.insert(message, at);
    usage.add(message.caps, counted, at);
    return { kind: 'committed' };
  }

  #writeBodyFile(m: NewMessage): void {
    const { bodies, effects, reached } = this.#parts;
    // Before anything touches the disk: the file of a repeated id would replace a stored message's body.
    if (this.#exists.get(m.queueId)) throw new Error(`queue id ${m.queueId} is taken`);
    effects.written.push(m.queueId);
    bodies.write(m.queueId, m.body);
    reached('after-body-file');
  }

  /** The lines of recipient 1, where there is one, stand before the body, those of the others apart. */
  #insertContents(m: NewMessage, first: number, body: Buffer): void {
    const one = m.recipients.find((other) => numberIn(m, other) === 1);
    const content = this.#insertContent(first, one ?? noLines, body);
    if (one && isDueAlone(m)) this.#parts.fresh.keep(first + 1, content);
    else free(content.bytes);
    for (const other of m.recipients) {
      const number = numberIn(m, other);
      if (number > 1) this.#insertContent(first + number, other, noBody);
    }
  }

  #insertContent(seq: number, { signatures, prefix }: typeof noLines, body: Buffer): Content {
    const bytes = joined([signatures, prefix, body]);
    const content = { bytes, split: signatures.length, body_at: signatures.length + prefix.length };
    this.#insertLines.run([seq, bytes, content.split, content.body_at]);
    return content;
  }

  #insertOne(
    m: NewMessage,
    r: NewRecipient,
    { seq, site, domain }: { seq: number; site: string; domain: string },
    { state, nextAt, pausedMs, details }: Entry,
  ): void {
    this.#insertRecipient.run([
      ...[seq, site, m.did, nextAt, state, r.address, domain, r.returnPath],
      ...[r.signedAt, pausedMs, stored(details)],
    ]);
  }

  #tell(m: NewMessage, r: NewRecipient, recipientDomain: string, state: RecipientState, at: number): void {
    const { outbox, recipients } = this.#parts;
    const { did, domain, queueId: messageId, via, category, keyId, tags } = m;
    const of = { recipient: r.address, recipientDomain, size: m.body.length };
    const { suppressed } = r.refused ?? {};
    const detail = { via, ...of, category, keyId, simulated: r.simulated === true, tags, suppressed };
    outbox.tell({ type: 'relay_attempt', did, domain, messageId, recipientId: r.id, detail }, at);
    if (state === 'accepted') return;
    const act = state === 'held' ? { by: 'automatic', reason: m.hold! } : undefined;
    const row = recipients.open(r.id)!;
    if (act) {
      recipients.recordAct(row, { at, act: 'held', ...act });
      recipients.move(row, { state, nextAt: row.next_at, details: entryOf(m, r, at).details });
    }
    outbox.tellResult(row, r.id, state, { act }, at);
  }

  #refuse(recipientId: string, attempt: NonNullable<NewRecipient['refused']>, at: number): void {
    this.#parts.settling.settle({ recipientId, attempt, next: { state: 'bounced' } }, at);
  }
}

function entryOf(m: NewMessage, r: NewRecipient, at: number): Entry {
  const details = recipientDetails(r);
  const isLater = m.sendAt !== undefined && m.sendAt > at;
  const entry: Entry = isLater
    ? { state: 'scheduled', nextAt: m.sendAt!, pausedMs: Math.max(0, m.sendAt! - m.receivedAt), details }
    : { state: 'accepted', nextAt: m.receivedAt, pausedMs: 0, details };
  if (m.hold === undefined) return entry;
  const { state, nextAt } = entry;
  return { ...entry, state: 'held', nextAt: heldAt, details: { ...details, held: { at, state, nextAt } } };
}

function answerTo(item: BatchItem, outcome: BatchOutcome | undefined): string {
  return 'message' in item ? item.answers[outcome!.kind] : item.answer;
}

function chargedOf(m: NewMessage): Charged {
  return chargedFor({ kind: m.kind, did: m.did, simulated: isSimulated(m) });
}

/** Ids of the recipients that caps count. */
function countedOf({ recipients }: NewMessage): string[] {
  return recipients.filter(({ simulated }) => !simulated).map(({ id }) => id);
}

/** @throws when the id is not of this message */
function numberIn(m: NewMessage, { id }: NewRecipient): number {
  const parts = partsOf(id);
  if (parts?.queueId !== m.queueId) throw new Error(`${id} is no recipient of ${m.queueId}`);
  return parts.number;
}
