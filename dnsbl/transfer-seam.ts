/**
 * Which messages over TCP are not for the Answerer alone: requests for a whole zone.
 *
 * Who answers them satisfies `Transfer`; the sockets know nothing of zones.
 */
import { TYPE } from './records.ts';
import type { Client } from './seams.ts';

export interface Transfer {
  /** With which every answering thread answers signed questions of any type. */
  readonly keys?: readonly { name: string; secret: Uint8Array }[];
  /**
   * @param message a copy of its own
   * @param client stays as it is while the connection lasts
   * @returns the messages of the answer, each up to 65,535 octets; the next one is asked for when the
   *   client has taken what went before, and when the connection ends the iteration is ended by
   *   `return()`. undefined: the Answerer's business after all
   */
  handle(message: Buffer, client: Client): AsyncIterable<Buffer> | undefined;
}

const HEADER_OCTETS = 12;
const RESPONSE_OR_OPCODE = 0xf8;

/** AXFR and IXFR. Reads no further than the message; what is malformed is the Answerer's business. */
export function isForTransfer(message: Buffer): boolean {
  if (message.length < HEADER_OCTETS || (message[2]! & RESPONSE_OR_OPCODE) !== 0) return false;
  if (message.readUInt16BE(4) !== 1) return false;
  const root = endOfLabels(message);
  if (root + 5 > message.length) return false;
  const type = message.readUInt16BE(root + 1);
  return type === TYPE.AXFR || type === TYPE.IXFR;
}

/** Where the question's name ends: at its root, or beyond the message. */
function endOfLabels(message: Buffer): number {
  let at = HEADER_OCTETS;
  while (at < message.length && message[at] !== 0) at += 1 + message[at]!;
  return at;
}
