/** What an Answerer asks of others, and what it tells them; they satisfy it, it knows none of them. */
import type { ZoneShare } from './table/share.ts';
import type { Transport } from './wire.ts';

/** Who asks. The same object may be used for every packet. */
export type Client = {
  family: 4 | 6;
  /** 4 or 16 octets; valid during the call only. */
  address: Uint8Array;
  port: number;
};

/** What an answer is, for the response rate limit. */
export type AnswerClass = 'positive' | 'nodata' | 'nxdomain' | 'error';

/** Access and rate limit; one per answering thread. */
export interface Gate {
  /** Before any zone is read. `refuse`: answer REFUSED; `drop`: stay silent. */
  admit(client: Client, transport: Transport): 'ok' | 'refuse' | 'drop';
  /**
   * Before an answer leaves over UDP, unless its client showed a valid cookie.
   *
   * @param nameHash of the name asked, in lower case (32 bits, signed); 0 where none was read
   * @returns `slip`: an empty answer with TC instead
   */
  respond(client: Client, answerClass: AnswerClass, nameHash: number): 'send' | 'slip' | 'drop';
}

/** RFC 9018: the client's 8 octets; then the server's: version, reserved, time, hash. */
export const COOKIE_OCTETS = 24;

/** RFC 7873, 9018. `octets` from `at` hold the option's data: 8, or 16 to 40 octets. */
export interface Cookies {
  /** Whether a limited client that speaks cookies is told BADCOOKIE where another is told to use TCP. */
  readonly areRequired?: boolean;
  isValid(client: Client, octets: Uint8Array, at: number, length: number): boolean;
  /** Writes the option's data for the answer (client cookie, then server cookie). @returns its octets */
  answerFor(
    client: Client,
    octets: Uint8Array,
    at: number,
    length: number,
    out: Uint8Array,
    outAt: number,
  ): number;
}

/** The subscribers' keys of one zone: `<name>.<subtree>.<key>.<apex>`. */
export interface ZoneKeys {
  /** Which key this label is, compared in constant time. @returns -1 for none: NXDOMAIN */
  find(octets: Uint8Array, at: number, length: number): number;
  /** @param key -1 when asked without one */
  admit(key: number, client: Client, transport: Transport): 'ok' | 'refuse' | 'drop';
}

/** Indices into `outcomes`. */
export const OUTCOME = {
  noerror: 0,
  nodata: 1,
  nxdomain: 2,
  refused: 3,
  formerr: 4,
  notimp: 5,
  badvers: 6,
  slipped: 7,
  badcookie: 8,
} as const;
export const outcomes = Object.keys(OUTCOME) as (keyof typeof OUTCOME)[];

/** Indices into `dropReasons`. `denied`: Gate.admit or ZoneKeys.admit; `limited`: Gate.respond. */
export const DROP = { short: 0, response: 1, denied: 2, limited: 3 } as const;
export const dropReasons = Object.keys(DROP) as (keyof typeof DROP)[];

/** Called once for each packet. */
export interface AnswerCounters {
  /** @param zone index in AnswererOptions.zones, -1 outside all; @param type QTYPE, 0 where none was read */
  answered(zone: number, type: number, outcome: number, truncated: boolean): void;
  dropped(reason: number): void;
}

export type AnswererOptions = {
  zones: readonly ZoneShare[];
  counters: AnswerCounters;
  gate?: Gate;
  cookies?: Cookies;
  /** Per apex; a zone without has no keyed names. */
  keys?: ReadonlyMap<string, ZoneKeys>;
  /** RFC 5001, and hostname.bind, id.server in class CHAOS. At most 255 octets. */
  nsid?: string;
  /** version.bind, version.server in class CHAOS. At most 255 octets. */
  version?: string;
};
