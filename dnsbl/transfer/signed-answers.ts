/**
 * Signed questions (RFC 8945), over UDP and TCP, in whatever thread they came to.
 *
 * Promise: an answer is signed when its question was, rightly; else it is NOTAUTH with the reason, or
 * FORMERR. The answer itself is the ordinary one, made before: so access, rate limit and counters are
 * those of every question, and whoever gets silence costs no MAC. BIND asks for the SOA this way before a
 * transfer, and takes no unsigned answer.
 *
 * No answer is longer than the client's datagram, or than the room for it. Where the signature leaves too
 * little, the answer is empty, with TC, and signed. Where long names make even that too long, or the TSIG of an
 * error, the empty answer goes without: over TCP there is room for all.
 *
 * Nothing here knows who may have a zone: that is asked over TCP (transfers.ts).
 */
import { MAX_UDP_OCTETS } from '../limits.ts';
import { type Query, RCODE, type Transport } from '../wire.ts';
import { Keyring, type TsigKey } from './keys.ts';
import { bareAnswer } from './message-writer.ts';
import { readRequest, type TransferRequest } from './request.ts';

const MIN_UDP_OCTETS = 512;
const MAX_TCP_OCTETS = 65_535;

export class SignedAnswers {
  readonly #keyring: Keyring;
  readonly #now: () => number;

  /** @param now Unix ms. @throws RangeError for keys that are none */
  constructor(keys: readonly TsigKey[], now: () => number = Date.now) {
    this.#keyring = new Keyring(keys);
    this.#now = now;
  }

  /**
   * Signs the ordinary answer to a question, which has `octets` in `out` from `outAt`, or puts another in
   * its place.
   *
   * @param out has the room that Answerer.answer asks for; no octet behind it is written
   * @returns what now stands there: octets, and whether the signature was right
   */
  sign(
    packet: Uint8Array,
    start: number,
    length: number,
    transport: Transport,
    out: Uint8Array,
    outAt: number,
    octets: number,
  ): { octets: number; isRight: boolean } {
    const message = Buffer.from(packet.subarray(start, start + length));
    const reading = readRequest(message, this.#keyring, this.#now);
    // What could not be read was answered FORMERR already.
    if (reading.kind === 'other') return { octets, isRight: false };
    const { query } = reading.kind === 'rejected' ? reading : reading.request;
    const most = Math.min(transport === 'tcp' ? MAX_TCP_OCTETS : udpOctets(query), out.length - outAt);
    if (reading.kind === 'rejected')
      return { octets: put(fittingError(reading.answer, query, most), out, outAt), isRight: false };
    const ordinary = Buffer.from(out.subarray(outAt, outAt + octets));
    const answer = fittingAnswer(ordinary, reading.request, most);
    return { octets: put(answer, out, outAt), isRight: reading.request.keyName !== undefined };
  }
}

function fittingError(answer: Buffer, query: Query, most: number): Buffer {
  return answer.length <= most ? answer : bareAnswer(query, rcodeOf(answer), true);
}

function fittingAnswer(
  ordinary: Buffer,
  { query, signatureOctets, sign }: TransferRequest,
  most: number,
): Buffer {
  if (ordinary.length + signatureOctets <= most) return sign(ordinary);
  const bare = bareAnswer(query, RCODE.NOERROR, true);
  return bare.length + signatureOctets <= most ? sign(bare) : bare;
}

function udpOctets({ edns }: Query): number {
  return Math.min(Math.max(edns?.udpOctets ?? 0, MIN_UDP_OCTETS), MAX_UDP_OCTETS);
}

function rcodeOf(answer: Buffer): number {
  return answer[3]! & 0xf;
}

function put(answer: Buffer, out: Uint8Array, outAt: number): number {
  out.set(answer, outAt);
  return answer.length;
}
