/**
 * Window counters of a member's mail, by domain and provider.
 *
 * The type is a seam: the guard, the rules and the charts read rates through it.
 */

export type RateWindow = '5m' | '10m' | '1h' | '24h' | '7d' | '14d' | '30d';

export type RateFigures = {
  /** Recipients accepted. */
  sends: number;
  delivered: number;
  /** Recipient-invalid bounces; one recipient counts once. */
  recipientInvalid: number;
  complaints: number;
};

export type RatesOf = (query: {
  did: string;
  domain?: string;
  provider?: string;
  window: RateWindow;
}) => RateFigures;
