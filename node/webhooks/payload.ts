/**
 * What a member is told of an event: its name and its words.
 *
 * Only what is the member's own business: no name of who works for the cooperative, no figure of another.
 */
import type { Event } from '../enforcement/events.ts';

export const toldTypes = [
  'message.accepted',
  'message.deferred',
  'message.sent',
  'message.bounced',
  'message.cancelled',
  'message.complained',
  'recipient.unsubscribed',
  'member.standing',
] as const;
export type ToldType = (typeof toldTypes)[number];

/** `webhook.test` comes only when it is asked for. */
export type Payload = {
  type: ToldType | 'webhook.test';
  /** Of the event, RFC 3339. */
  timestamp: string;
  data: Record<string, unknown>;
};

const byState: Readonly<Record<string, ToldType>> = {
  deferred: 'message.deferred',
  sent: 'message.sent',
  bounced: 'message.bounced',
  cancelled: 'message.cancelled',
};

/** The fields of an event's detail that go out, by type. All others stay here. */
const accepted = ['via', 'recipient', 'size', 'category', 'tags', 'simulated'] as const;
const result = [
  ...['recipient', 'status', 'reply', 'summary', 'reason', 'host', 'site', 'recipientInvalid'],
  ...['category', 'tags', 'simulated'],
] as const;
const told: Readonly<Record<ToldType, readonly string[]>> = {
  'message.accepted': accepted,
  'message.deferred': result,
  'message.sent': result,
  'message.bounced': result,
  'message.cancelled': result,
  'message.complained': ['recipient', 'feedbackType', 'simulated'],
  'recipient.unsubscribed': ['recipient', 'via'],
  'member.standing': ['state', 'from', 'reason', 'until', 'by'],
};

/** @returns undefined for what members are not told by webhook */
export function toldType({ type, detail }: Pick<Event, 'type' | 'detail'>): ToldType | undefined {
  switch (type) {
    case 'relay_attempt':
      // An attempt that a cap refused is no message.
      return detail.refused === undefined ? 'message.accepted' : undefined;
    case 'delivery_result':
      return byState[String(detail.state)];
    case 'bounce_received':
      return 'message.bounced';
    case 'complaint_received':
      return 'message.complained';
    case 'unsubscribe':
      return 'recipient.unsubscribed';
    case 'staff_act':
      return detail.act === 'standing' ? 'member.standing' : undefined;
    default:
      return undefined;
  }
}

export function payloadOf(event: Event): Payload | undefined {
  const type = toldType(event);
  if (!type) return undefined;
  const { messageId, recipientId, domain, detail } = event;
  const known = told[type].filter((name) => detail[name] !== undefined);
  const words = Object.fromEntries(known.map((name) => [name, detail[name]]));
  const about = {
    ...(domain !== undefined && { domain }),
    ...(messageId !== undefined && { messageId }),
    ...(recipientId !== undefined && { recipientId }),
  };
  return { type, timestamp: new Date(event.at).toISOString(), data: { ...about, ...words } };
}
