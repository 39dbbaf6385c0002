/** An outbox in a file of its own, which survives its process as the spool's does. */
import { openDatabase } from '../../appview/database.ts';
import { type Event, eventIds, outboxes } from '../../node/enforcement/events.ts';

const schema = [
  { number: 1, name: 'outbox', sql: 'CREATE TABLE event (id INTEGER PRIMARY KEY, body TEXT) STRICT' },
];

export function openOutbox(dir: string) {
  const db = openDatabase(`${dir}/outbox.db`, schema, { synchronous: 'FULL' });
  const read = db.prepare('SELECT body FROM event WHERE id > ? ORDER BY id LIMIT ?');
  const nextId = eventIds(outboxes.spool, Date.now);
  return {
    add: (event: Omit<Event, 'id'>) => {
      const id = nextId();
      db.prepare('INSERT INTO event (id, body) VALUES (?, ?)').run(
        Number(id),
        JSON.stringify({ id, ...event }),
      );
    },
    eventsAfter: (id: string, limit: number) =>
      (read.all(Number(id), limit) as { body: string }[]).map(({ body }) => JSON.parse(body) as Event),
    forget: (through: string) => db.prepare('DELETE FROM event WHERE id <= ?').run(Number(through)),
    close: () => db.close(),
  };
}
