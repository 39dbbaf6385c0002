/**
 * Recipient states, the same words everywhere: database, API, pages, events.
 *
 * A recipient ends as `sent`, `bounced` or `cancelled`; `sent` may later become `bounced`
 * when a bounce comes back through port 25.
 */
export type RecipientState =
  | 'accepted'
  | 'deferred'
  | 'scheduled'
  | 'held'
  | 'sent'
  | 'bounced'
  | 'cancelled';

export const terminalStates: ReadonlySet<RecipientState> = new Set(['sent', 'bounced', 'cancelled']);
