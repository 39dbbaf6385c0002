/**
 * Every cap of the DNS server. What can grow, grows up to one of these and no further.
 *
 * Sizes that the DNS itself fixes (63, 255, 512, 65535 octets) stand where they are used.
 */

/**
 * Our EDNS buffer, and the largest answer over UDP, in octets: fits the smallest IPv6 MTU, so no
 * answer is ever fragmented (the value of DNS Flag Day 2020, and the default of NSD, BIND and Knot).
 */
export const MAX_UDP_OCTETS = 1232;

/** Records behind the question. A real query brings at most three: OPT, TSIG and the SOA of an IXFR. */
export const MAX_RECORDS_IN_QUERY = 8;

/**
 * The explanation in a TXT, in octets. Vouchers beyond it are left to the page at its URL, so that
 * usual answers fit MAX_UDP_OCTETS even under the longest name: 12 header, 259 question, 12 record,
 * 11 OPT, 4 string lengths.
 */
export const TEXT_BUDGET_OCTETS = 900;

/** An explanation that is longer even without its vouchers: such an entry is not listable. */
export const MAX_TEXT_OCTETS = 4096;

/** Free UDP ports tried for port 0 until TCP can have the same number. */
export const MAX_PORT_TRIES = 16;

/** Receive queue asked of the kernel, in octets: a burst of some 5,000 queries waits, not drops. */
export const UDP_RECEIVE_BUFFER_OCTETS = 2 * 1024 * 1024;

export type ServerLimits = {
  /** Answers handed to the kernel and not yet sent; queries beyond are dropped, as UDP may. */
  maxUdpSends: number;
  /** Each may hold one partial message of up to 64 KiB: 16 MiB in all. */
  maxTcpConnections: number;
  /** Of those, from one address. */
  maxTcpConnectionsPerClient: number;
  /** A connection that has not completed a query for so long is closed (RFC 7766 §6.2.3: seconds). */
  tcpIdleMs: number;
};

export const defaultServerLimits: ServerLimits = {
  maxUdpSends: 1024,
  maxTcpConnections: 256,
  maxTcpConnectionsPerClient: 32,
  tcpIdleMs: 10_000,
};
