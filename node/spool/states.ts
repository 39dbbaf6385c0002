/**
 * Recipient states, the same words everywhere: database, API, pages, events.
 *
 * A recipient ends as `sent`, `bounced` or `cancelled`; `sent` may later become `bounced`
 * when a bounce comes back through port 25.
 */
export const recipientStates = [
  'accepted',
  'deferred',
  'scheduled',
  'held',
  'sent',
  'bounced',
  'cancelled',
] as const;

export type RecipientState = (typeof recipientStates)[number];

export const terminalStates: ReadonlySet<RecipientState> = new Set(['sent', 'bounced', 'cancelled']);

/** Those in which something is still to come. */
export const openStates: readonly RecipientState[] = recipientStates.filter(
  (state) => !terminalStates.has(state),
);
