/**
 * Suppresses who does not exist and who complained, in the commit that stores the event.
 *
 * An address that its server refused as not existing for 30 days, one that complained for good, each with the
 * evidence that the member reads. Simulated mail suppresses nobody.
 */
import { bounceSuppressionMs, type NewSuppression } from '../members/suppressions.ts';
import type { Projection } from './event-store.ts';
import type { Event } from './events.ts';

/** What this file needs of members/suppressions.ts; add() runs inside the open transaction. */
export type SuppressionList = { add(suppression: NewSuppression): void };

export function suppressionProjection(list: SuppressionList): Projection {
  return {
    project(events) {
      for (const event of events) {
        const suppression = suppressionOf(event);
        if (suppression) list.add(suppression);
      }
    },
  };
}

function suppressionOf(event: Event): NewSuppression | undefined {
  const { type, did, at, messageId, detail } = event;
  const { recipient } = detail;
  if (detail.simulated === true || typeof recipient !== 'string' || !recipient.includes('@'))
    return undefined;
  const about = { did, address: recipient, evidence: evidenceOf(event), ...(messageId && { messageId }) };
  if (type === 'complaint_received') return { ...about, reason: 'complaint' };
  const hasBounced = type === 'bounce_received' || (type === 'delivery_result' && detail.state === 'bounced');
  if (!hasBounced || detail.recipientInvalid !== true) return undefined;
  return { ...about, reason: 'bounce', expiresAt: at + bounceSuppressionMs };
}

/** What was said, by whom and when. The message has a place of its own. */
function evidenceOf({ type, at, detail }: Event): string {
  const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined);
  const said =
    text(detail.reply) ?? text(detail.summary) ?? { complaint_received: 'reported as spam' }[type as string];
  const host = text(detail.host);
  return [new Date(at).toISOString(), host && `${host} said`, said ?? 'does not exist']
    .filter(Boolean)
    .join(': ');
}
