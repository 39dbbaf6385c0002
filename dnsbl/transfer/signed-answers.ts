/**
 * Signed questions (RFC 8945), over UDP and TCP, in whatever thread they came to.
 *
 * Promise: an answer is signed when its question was, rightly; else it is NOTAUTH with the reason, or
 * FORMERR. The answer itself is the ordinary one, made before: so access, rate limit and counters are
 * those of every question, and whoever gets silence costs no MAC. BIND asks for the SOA this way before a
 * transfer, and takes no unsigned answer.
 *
 * What a signature adds may be more than the client's datagram holds: then the answer is empty, with TC,
 * and signed. Nothing here knows who may have a zone: that is asked over TCP (transfers.ts).
 */
import { MAX_UDP_OCTETS } from '../limits.ts';
import { type Query, RCODE, type Transport } from '../wire.ts';
import { Keyring, type TsigKey } from './keys.ts';
import { bareAnswer } from './message-writer.ts';
import { readRequest } from './request.ts';

const MIN_UDP_OCTETS = 512;

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
   * @param out with the room that Answerer.answer asks for
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
    if (reading.kind === 'rejected') return { octets: put(reading.answer, out, outAt), isRight: false };
    const { query, keyName, signatureOctets, sign } = reading.request;
    const fits = transport === 'tcp' || octets + signatureOctets <= udpOctets(query);
    const answer = fits
      ? Buffer.from(out.subarray(outAt, outAt + octets))
      : bareAnswer(query, RCODE.NOERROR, true);
    return { octets: put(sign(answer), out, outAt), isRight: keyName !== undefined };
  }
}

function udpOctets({ edns }: Query): number {
  return Math.min(Math.max(edns?.udpOctets ?? 0, MIN_UDP_OCTETS), MAX_UDP_OCTETS);
}

function put(answer: Buffer, out: Uint8Array, outAt: number): number {
  out.set(answer, outAt);
  return answer.length;
}
