/**
 * To whom a domain's mail was delivered, day by day, for 30 days: what `clean-sender` rests on.
 *
 * Promise: a delivery is counted in the commit that stores its event. Kept are a keyed hash of each recipient
 * and its domain, never the address; of each domain and day the first recipients alone, which is enough for
 * every figure that is asked (../labeler/sending-figures.ts). Simulated mail and what was never sent count
 * nowhere.
 */
import { createHmac } from 'node:crypto';
import type { Database } from '../../appview/database.ts';
import type { Projection } from './event-store.ts';
import type { Event } from './events.ts';

export const sentRecipientDays = 30;
/** Counted of one recipient, whatever was sent to it. */
export const sendsPerRecipient = 3;

const dayMs = 86_400_000;
const recipientsADay = 64;
const removedAtOnce = 5_000;
const hashBytes = 8;

export class SentRecipients implements Projection {
  readonly #key: Buffer;
  readonly #now: () => number;
  readonly #add: Database.Statement<unknown[]>;
  readonly #trim: Database.Statement<unknown[]>;

  /** @param o.db node.db @param o.key secret of this node, 32 octets */
  constructor(o: { db: Database.Database; key: Buffer; now: () => number }) {
    this.#key = createHmac('sha256', o.key).update('recipients of clean-sender').digest();
    this.#now = o.now;
    this.#add = o.db.prepare(
      `INSERT INTO sent_recipient (did, domain, day, recipient, at_domain, sends)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ${recipientsADay} > (
         SELECT count(*) FROM sent_recipient WHERE did = ?1 AND domain = ?2 AND day = ?3 AND recipient <> ?4)
       ON CONFLICT DO UPDATE SET sends = min(${sendsPerRecipient}, sends + excluded.sends)`,
    );
    this.#trim = o.db.prepare(
      `DELETE FROM sent_recipient WHERE (did, domain, day, recipient) IN
         (SELECT did, domain, day, recipient FROM sent_recipient WHERE day < ?1 LIMIT ?2)`,
    );
  }

  /** In the transaction that stores the events, each of them new. */
  project(events: readonly Event[]): void {
    const counted = new Map<string, { of: Delivered; sends: number }>();
    for (const event of events) {
      const of = deliveredOf(event);
      if (!of) continue;
      const key = `${of.did}\n${of.domain}\n${of.day}\n${of.recipient}`;
      const known = counted.get(key);
      if (known) known.sends = Math.min(sendsPerRecipient, known.sends + 1);
      else counted.set(key, { of, sends: 1 });
    }
    for (const { of, sends } of counted.values()) {
      const hash = createHmac('sha256', this.#key).update(of.recipient).digest().subarray(0, hashBytes);
      this.#add.run([of.did, of.domain, of.day, hash, of.atDomain, sends]);
    }
  }

  housekeep(): boolean {
    const first = Math.floor(this.#now() / dayMs) - sentRecipientDays + 1;
    return this.#trim.run([first, removedAtOnce]).changes >= removedAtOnce;
  }
}

type Delivered = { did: string; domain: string; day: number; recipient: string; atDomain: string };

function deliveredOf({ type, did, domain, at, detail }: Event): Delivered | undefined {
  if (type !== 'delivery_result' || detail.state !== 'sent' || detail.simulated === true) return undefined;
  if (domain === undefined || typeof detail.recipient !== 'string') return undefined;
  const recipient = detail.recipient.toLowerCase();
  const atDomain = recipient.slice(recipient.lastIndexOf('@') + 1);
  return atDomain === '' ? undefined : { did, domain, day: Math.floor(at / dayMs), recipient, atDomain };
}
