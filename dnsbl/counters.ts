/**
 * What one answering thread counts, in memory that the owner's thread reads.
 *
 * Only its own thread writes into a counter, so nothing needs a lock: a reader may be a query behind,
 * never wrong. (An aligned 64-bit store is whole on every 64-bit machine.)
 */
import { type AnswerCounters, dropReasons, outcomes } from './seams.ts';

/** Indices of what the sockets count; the names that `countsOf` gives them. */
const socketNames = [
  'dns_queries udp',
  'dns_queries tcp',
  'dns_dropped source_port_zero',
  'dns_dropped oversized',
  'dns_dropped overload',
  'dns_dropped fault',
  'dns_udp_errors send',
  'dns_udp_errors socket',
  'dns_tcp_refused all_taken',
  'dns_tcp_refused client',
  'dns_tcp_closed idle',
  'dns_tcp_closed displaced',
  'dns_tcp_errors accept',
  'dns_transfers begun',
  'dns_transfers broken',
  'dns_tsig signed',
  'dns_tsig rejected',
  'dns_threads died',
] as const;
export const SOCKET = {
  udpQueries: 0,
  tcpQueries: 1,
  sourcePortZero: 2,
  oversized: 3,
  overload: 4,
  fault: 5,
  sendErrors: 6,
  socketErrors: 7,
  tcpAllTaken: 8,
  tcpClientCap: 9,
  tcpIdle: 10,
  tcpDisplaced: 11,
  acceptErrors: 12,
  transfers: 13,
  transferErrors: 14,
  tsigSigned: 15,
  tsigRejected: 16,
  threadDeaths: 17,
} as const;

export interface SocketCounters {
  /** @param what one of SOCKET */
  add(what: number, times?: number): void;
}

const names = [
  ...socketNames,
  ...outcomes.map((outcome) => `dns_answers ${outcome}`),
  ...dropReasons.map((reason) => `dns_dropped ${reason}`),
];
const ANSWERS = socketNames.length;
const DROPS = ANSWERS + outcomes.length;

/** Whoever counts more has its places behind these. */
export const COUNTER_OCTETS = names.length * Float64Array.BYTES_PER_ELEMENT;

export class ThreadCounters implements AnswerCounters, SocketCounters {
  readonly #counts: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#counts = new Float64Array(memory);
  }

  add(what: number, times = 1): void {
    this.#counts[what]! += times;
  }

  answered(_zone: number, _type: number, outcome: number): void {
    this.#counts[ANSWERS + outcome]! += 1;
  }

  dropped(reason: number): void {
    this.#counts[DROPS + reason]! += 1;
  }
}

/** The sums over all threads, by name: `dns_answers nxdomain`, `dns_dropped short`, … */
export function countsOf(memories: readonly SharedArrayBuffer[]): Map<string, number> {
  const sums = new Map(names.map((name) => [name, 0]));
  for (const memory of memories) {
    const counts = new Float64Array(memory);
    for (const [index, name] of names.entries()) sums.set(name, sums.get(name)! + counts[index]!);
  }
  return sums;
}
