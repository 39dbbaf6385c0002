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

/** Changes during one iteration over a zone (a transfer, an export), about 0.5 KB each, before it is lost. */
export const MAX_REMEMBERED_CHANGES = 65_536;

/** Free UDP ports tried for port 0 until TCP can have the same number. */
export const MAX_PORT_TRIES = 16;

/** Receive queue asked of the kernel, in octets: a burst of some 5,000 queries waits, not drops. */
export const UDP_RECEIVE_BUFFER_OCTETS = 2 * 1024 * 1024;

/** A longer query over UDP is dropped unread. A real one has 300 octets, padding and cookie included. */
export const MAX_UDP_QUERY_OCTETS = 4096;

/** What an Answerer needs free to write an answer over UDP, before it is cut to its size. */
export const UDP_ANSWER_ROOM_OCTETS = 4096;

/** Over TCP. */
export const TCP_ANSWER_ROOM_OCTETS = 65_535;

/** Between two log lines about faults of ours. */
export const FAULT_REPORT_INTERVAL_MS = 1000;

/** Answering threads that may die within WORKER_CRASH_WINDOW_MS and be started again at once. */
export const MAX_WORKER_CRASHES = 5;
export const WORKER_CRASH_WINDOW_MS = 60_000;

/** How long the next one waits; twice as long for each beyond, up to the most. */
export const WORKER_RESTART_MS = 1000;
export const WORKER_MAX_RESTART_MS = 30_000;

/** How long a thread may take to bind its sockets, and to close them when asked. */
export const WORKER_START_MS = 10_000;
export const WORKER_STOP_MS = 1000;

export type ServerLimits = {
  /** Answers of one socket that wait for the kernel, 4 KiB each; queries beyond are dropped, as UDP may. */
  maxUdpSends: number;
  /**
   * Each may hold one partial message of up to 64 KiB, and 32 KiB each of queries and answers on their
   * way: 32 MiB in all.
   */
  maxTcpConnections: number;
  /** Of those, from one IPv4 address or one IPv6 prefix of 56 bits. */
  maxTcpConnectionsPerClient: number;
  /** When all are taken, one that has been idle for so long gives its place to a newcomer. */
  tcpDisplaceMs: number;
  /** Queries answered on one connection before all others, and UDP, have their turn. */
  tcpQueriesPerTurn: number;
  /** A connection that has not completed a query for so long is closed (RFC 7766 §6.2.3: seconds). */
  tcpIdleMs: number;
};

export const defaultServerLimits: ServerLimits = {
  maxUdpSends: 1024,
  maxTcpConnections: 256,
  maxTcpConnectionsPerClient: 32,
  tcpDisplaceMs: 1000,
  tcpQueriesPerTurn: 32,
  tcpIdleMs: 10_000,
};
