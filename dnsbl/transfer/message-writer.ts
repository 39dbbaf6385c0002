/**
 * Fills messages with the records of a zone, one after the other (RFC 5936 §2.2, RFC 1995 §4).
 *
 * Owners are compressed against the question, which is the apex and stands in every message, against
 * the subtree's label, and against the owner before; data never is.
 */
import { MAX_UDP_OCTETS } from '../limits.ts';
import type { NameKey } from '../name.ts';
import { type RecordSet, TYPE } from '../records.ts';
import { CLASS_IN, type Edns, type Query } from '../wire.ts';
import { TRANSFER_MESSAGE_OCTETS } from './limits.ts';
import { HEADER_OCTETS } from './message-records.ts';

const RESPONSE_AUTHORITATIVE = 0x8400;
const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;
const DNSSEC_OK = 0x8000;
const OPT_OCTETS = 11;
/** Pointer or root, type, class, TTL, length. */
const FIXED_OCTETS = 10;
const POINTER = 0xc000;
const APEX_POINTER = POINTER | HEADER_OCTETS;

export class MessageWriter {
  readonly #query: Query;
  readonly #maxOctets: number;
  /** Only the first message has it. */
  #edns: Edns | undefined;
  #message = Buffer.alloc(0);
  #at = 0;
  #records = 0;
  #lastOwner: NameKey | undefined;
  #lastOwnerAt = 0;
  /** Where `dom`, `ip` and the like stand in the message with the apex behind them. */
  readonly #subtrees = new Map<NameKey, number>();

  /**
   * @param query of which the question's name is the apex
   * @param reserve octets of each message that a signature will take
   */
  constructor(query: Query, reserve: number) {
    this.#query = query;
    this.#edns = query.edns;
    this.#maxOctets = TRANSFER_MESSAGE_OCTETS - reserve;
    this.#open();
  }

  /** @returns false when it does not fit any more: take() the message, then add it to the next */
  add(owner: NameKey, set: RecordSet, rdata: Buffer): boolean {
    const most = owner.length + 2 + FIXED_OCTETS + rdata.length + (this.#edns ? OPT_OCTETS : 0);
    if (this.#at + most > this.#maxOctets) return false;
    this.#writeOwner(owner);
    const message = this.#message;
    let at = message.writeUInt16BE(set.type, this.#at);
    at = message.writeUInt16BE(CLASS_IN, at);
    at = message.writeUInt32BE(set.ttl, at);
    at = message.writeUInt16BE(rdata.length, at);
    this.#at = at + rdata.copy(message, at);
    this.#records += 1;
    return true;
  }

  /** The message so far, which is the caller's; the next one begins. */
  take(): Buffer {
    const message = this.#message;
    message.writeUInt16BE(this.#records, 6);
    if (this.#edns) {
      message.writeUInt16BE(1, 10);
      this.#at = writeOpt(message, this.#at, this.#edns);
    }
    const taken = message.subarray(0, this.#at);
    this.#edns = undefined;
    this.#open();
    return taken;
  }

  #open(): void {
    const { header, question } = this.#query;
    this.#message = Buffer.allocUnsafeSlow(this.#maxOctets);
    this.#at = writeHead(this.#message, header.id, RESPONSE_AUTHORITATIVE, question.octets);
    this.#records = 0;
    this.#lastOwner = undefined;
    this.#subtrees.clear();
  }

  #writeOwner(owner: NameKey): void {
    if (owner === '') this.#pointTo(HEADER_OCTETS);
    else if (owner === this.#lastOwner) this.#pointTo(this.#lastOwnerAt);
    else {
      this.#lastOwner = owner;
      this.#lastOwnerAt = this.#at;
      this.#writeLabels(owner);
    }
  }

  #writeLabels(owner: NameKey): void {
    const top = startOfLastLabel(owner);
    const subtree = owner.slice(top);
    const known = this.#subtrees.get(subtree);
    this.#at += this.#message.write(owner.slice(0, top), this.#at, 'latin1');
    if (known !== undefined) this.#pointTo(known);
    else {
      this.#subtrees.set(subtree, this.#at);
      this.#at += this.#message.write(subtree, this.#at, 'latin1');
      this.#at = this.#message.writeUInt16BE(APEX_POINTER, this.#at);
    }
  }

  #pointTo(at: number): void {
    this.#at = this.#message.writeUInt16BE(POINTER | at, this.#at);
  }
}

/** A message that holds no records: a refusal, or (over UDP) word that TCP has the answer. */
export function bareAnswer({ header, question, edns }: Query, rcode: number, isTruncated = false): Buffer {
  const message = Buffer.alloc(HEADER_OCTETS + question.octets.length + (edns ? OPT_OCTETS : 0));
  const recursion = header.recursionDesired ? RECURSION_DESIRED : 0;
  const flags = 0x8000 | recursion | (isTruncated ? TRUNCATED : 0) | rcode;
  const at = writeHead(message, header.id, flags, question.octets);
  if (!edns) return message;
  message.writeUInt16BE(1, 10);
  writeOpt(message, at, edns);
  return message;
}

function writeHead(message: Buffer, id: number, flags: number, question: Buffer): number {
  message.writeUInt16BE(id, 0);
  message.writeUInt16BE(flags, 2);
  message.writeUInt16BE(1, 4);
  message.fill(0, 6, HEADER_OCTETS);
  return HEADER_OCTETS + question.copy(message, HEADER_OCTETS);
}

/** RFC 6891 §6.1.3. */
function writeOpt(message: Buffer, start: number, edns: Edns): number {
  let at = message.writeUInt8(0, start);
  at = message.writeUInt16BE(TYPE.OPT, at);
  at = message.writeUInt16BE(MAX_UDP_OCTETS, at);
  at = message.writeUInt16BE(0, at);
  at = message.writeUInt16BE(edns.dnssecOk ? DNSSEC_OK : 0, at);
  return message.writeUInt16BE(0, at);
}

function startOfLastLabel(name: NameKey): number {
  let start = 0;
  for (;;) {
    const next = start + 1 + name.charCodeAt(start);
    if (next >= name.length) return start;
    start = next;
  }
}
