/** Messages and spools for the tests of spool and delivery. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { Bodies } from '../../node/spool/bodies.ts';
import { Claims } from '../../node/spool/claims.ts';
import { Fresh } from '../../node/spool/fresh.ts';
import { newQueueId, recipientId } from '../../node/spool/ids.ts';
import type { NextState } from '../../node/spool/message.ts';
import type { ActStep, Quotas } from '../../node/spool/protocol.ts';
import { spoolMigrations } from '../../node/spool/schema.ts';
import {
  type AttemptRecord,
  type Claim,
  type NewMessage,
  Spool,
  type SpoolOptions,
} from '../../node/spool/spool.ts';
import { Store, type Write } from '../../node/spool/store.ts';

export const silent = pino({ level: 'silent' });
export const start = Date.UTC(2026, 10, 20, 9);
export const minute = 60_000;
export const day = 24 * 60 * minute;

/** A clock that stands until it is moved. */
export class Clock {
  at = start;
  readonly now = (): number => this.at;
  forward(ms: number): void {
    this.at += ms;
  }
}

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-spool-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export async function openSpool(t: TestContext, options: Partial<SpoolOptions> = {}): Promise<Spool> {
  const dir = options.dir ?? temporaryFolder(t);
  const spool = await Spool.open({ log: silent, now: () => start, ...options, dir });
  t.after(() => spool.close());
  return spool;
}

/** Claims with the usual question. */
export function due(
  spool: Spool,
  limit: number,
  now: number,
  exceptSites: string[] = [],
  exceptMembers: string[] = [],
): Promise<Claim[]> {
  return spool.due({ limit, now, exceptSites, exceptMembers });
}

type MailOptions = Partial<Omit<NewMessage, 'recipients'>> & {
  to?: string[];
  signatures?: string;
  prefix?: string;
};

export function mail({
  to = ['ann@dest.test'],
  signatures = '',
  prefix,
  ...rest
}: MailOptions = {}): NewMessage {
  const receivedAt = rest.receivedAt ?? start;
  const queueId = rest.queueId ?? newQueueId(() => receivedAt);
  return {
    queueId,
    kind: 'mail',
    did: 'did:plc:reef',
    domain: 'reef.test',
    via: 'smtp',
    mailFrom: 'pds@reef.test',
    receivedAt,
    expiresAt: receivedAt + 4 * day,
    body: Buffer.from('From: pds@reef.test\r\nSubject: Your code\r\nMessage-ID: <1@reef.test>\r\n\r\nHi\r\n'),
    caps: [],
    ...rest,
    recipients: to.map((address, index) => ({
      id: recipientId(queueId, index + 1),
      address,
      returnPath: 'b-x@harbor.test',
      signatures: Buffer.from(signatures),
      signedAt: receivedAt,
      prefix: Buffer.from(prefix ?? `X-Atmos-Id: ${recipientId(queueId, index + 1)}\r\n`),
    })),
  };
}

export function delivered(at = start): AttemptRecord {
  return { at, durationMs: 5, outcome: 'delivered', counted: true, status: '2.0.0', summary: 'delivered' };
}

export function putOff(at = start, counted = true): AttemptRecord {
  const reply = '451 4.7.1 later';
  return { at, durationMs: 5, outcome: 'deferred', counted, reply, status: '4.7.1', summary: 'put off' };
}

/** Bytes that follow from a name, so that a reader can tell whether they are whole. */
export function bodyFor(name: string, size: number): Buffer {
  const block = createHash('sha512').update(name).digest('hex');
  return Buffer.from(block.repeat(Math.ceil(size / block.length)).slice(0, size));
}

const unlimited = { messages: 1e9, bytes: 1e12 };

/** What the thread does, without the thread. */
export function storeInMemory(
  t: TestContext,
  quotas: Quotas = { all: unlimited, perMember: unlimited },
  folder = temporaryFolder(t),
) {
  const db = openDatabase(':memory:', spoolMigrations, { synchronous: 'NORMAL' });
  const fresh = new Fresh();
  const claims = new Claims(db, fresh);
  const bodies = new Bodies(folder);
  const store = new Store({
    db,
    bodies,
    claims,
    fresh,
    retainMs: 30 * day,
    quotas,
    reached: () => undefined,
  });
  const write = (one: Write) => {
    const [written] = store.commit([one]);
    if (written!.kind === 'refused') throw new Error(written!.reason);
    return written!.value;
  };
  return {
    ...{ db, claims, store, folder, write },
    /** @returns the ids of its recipients */
    accept(options: MailOptions, at = options.receivedAt ?? start): string[] {
      const message = mail(options);
      write({ call: 'accept', at, args: [message] });
      return message.recipients.map(({ id }) => id);
    },
    settle(recipientId: string, next: NextState, at = start) {
      const attempt = next.state === 'deferred' ? putOff(at) : delivered(at);
      return write({ call: 'settle', at, args: [{ recipientId, attempt, next }] });
    },
    act: (step: ActStep, at = start) => write({ call: 'act', at, args: [step] }),
    finishCancelled: (at: number) => write({ call: 'finishCancelled', at, args: [claims.cancelling()] }),
  };
}
