/** A node.db with members, an outbox that stands in for the spool's, and the event log between them. */
import { pino } from 'pino';
import { type Database, openDatabase } from '../../appview/database.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import type { Projection } from '../../node/enforcement/event-store.ts';
import { type Event, eventIds, outboxes } from '../../node/enforcement/events.ts';
import { type CapsPolicy, standings } from '../../node/enforcement/standing.ts';
import { nodeMigrations } from '../../node/migrations.ts';

export const log = pino({ level: 'silent' });
export const minute = 60_000;
export const hour = 60 * minute;
export const day = 24 * hour;
/** The first minute of a day. */
export const start = 20_000 * day;
export const reef = 'did:plc:reef';

export const policy: CapsPolicy = {
  warmingDays: 0,
  warming: [],
  tiers: { standard: { perHour: 10, perDay: 100 } },
};

export type NewEvent = Partial<Event> & Pick<Event, 'type'>;

export function world(projections: (db: Database.Database, now: () => number) => Projection[] = () => []) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const clock = { at: start };
  const now = () => clock.at;
  enrol(db, reef, 'reef.test');
  const waiting: Event[] = [];
  const source = {
    eventsAfter: async (id: string, limit: number) =>
      waiting.filter((event) => Number(event.id) > Number(id)).slice(0, limit),
    forgetEvents: async (through: string) => {
      waiting.splice(0, waiting.findIndex(({ id }) => id === through) + 1);
    },
  };
  const counted: string[] = [];
  const events = new EventLog({
    ...{ db, source, outbox: outboxes.spool, projections: projections(db, now), log, now },
    count: (what, reason) => counted.push([what, reason].filter(Boolean).join(' ')),
  });
  const nextId = eventIds(outboxes.spool, now);
  /** Through the outbox, as the spool's events come. */
  const happen = async (...news: NewEvent[]) => {
    const made = news.map((one): Event => {
      return { id: nextId(), at: now(), did: reef, domain: 'reef.test', detail: {}, ...one };
    });
    waiting.push(...made);
    await events.copy();
    return made;
  };
  const standingOf = standings({ db, policy, now });
  return { db, clock, now, events, happen, counted, standingOf };
}

export function enrol(db: Database.Database, did: string, domain: string): void {
  db.prepare('INSERT INTO member (did, enrolled_at) VALUES (?, 0)').run(did);
  db.prepare('INSERT INTO domain (name, did, enrolled_at) VALUES (?, ?, 0)').run(domain, did);
}

export function accepted(recipient = 'ana@harbor.example', detail: object = {}): NewEvent {
  return { type: 'relay_attempt', messageId: 'm', recipientId: 'm.1', detail: { recipient, ...detail } };
}

export function result(state: string, detail: object = {}, recipient = 'ana@harbor.example'): NewEvent {
  const about = { messageId: 'm', recipientId: 'm.1' };
  return {
    type: 'delivery_result',
    ...about,
    detail: { state, recipient, site: 'harbor.example', ...detail },
  };
}

/** What a server says of a recipient that does not exist. */
export function unknownUser(recipient: string, detail: object = {}): NewEvent {
  return result('bounced', { recipientInvalid: true, status: '5.1.1', ...detail }, recipient);
}

export function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}
