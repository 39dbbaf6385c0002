/**
 * Which messages over TCP are not for the Answerer: zone transfers, other opcodes, and what is signed.
 *
 * Who answers them satisfies `Transfer`; the sockets know nothing of zones.
 */
import { TYPE } from './records.ts';
import type { Client } from './seams.ts';

export interface Transfer {
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
const TSIG = 250;

/** Reads no further than the message; what is malformed is the Answerer's business. */
export function isForTransfer(message: Buffer): boolean {
  if (message.length < HEADER_OCTETS || (message[2]! & 0x80) !== 0) return false;
  if ((message[2]! & 0x78) !== 0) return true;
  if (message.readUInt16BE(4) !== 1) return false;
  const questionEnd = endOfName(message, HEADER_OCTETS) + 4;
  if (questionEnd > message.length) return false;
  const type = message.readUInt16BE(questionEnd - 4);
  return type === TYPE.AXFR || type === TYPE.IXFR || isSigned(message, questionEnd);
}

/** RFC 8945 §5.1: a TSIG is the last record, and there is one only. */
function isSigned(message: Buffer, questionEnd: number): boolean {
  const records = message.readUInt16BE(6) + message.readUInt16BE(8) + message.readUInt16BE(10);
  let type = 0;
  let at = questionEnd;
  for (let index = 0; index < records; index++) {
    const fixed = endOfName(message, at);
    if (fixed + 10 > message.length) return false;
    type = message.readUInt16BE(fixed);
    at = fixed + 10 + message.readUInt16BE(fixed + 8);
  }
  return type === TSIG && at <= message.length;
}

/** Behind the root, or behind a pointer, which is not followed. Beyond the message where it does not end. */
function endOfName(message: Buffer, start: number): number {
  let at = start;
  while (at < message.length) {
    const length = message[at]!;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    at += 1 + length;
  }
  return Number.MAX_SAFE_INTEGER;
}
