/**
 * One packet and the zones → one answer, or none.
 *
 * Pure: reads the packet and the zones, touches no socket. What is not ours is REFUSED, never an
 * address: filters read any address in 127.0.0.0/8 as a listing.
 */
import { type RecordSet, TYPE } from './records.ts';
import {
  CLASS_IN,
  encodeFault,
  encodeResponse,
  type Query,
  RCODE,
  type Response,
  readQuery,
  type Transport,
} from './wire.ts';
import type { Found, Zone } from './zone.ts';

export type Outcome = 'noerror' | 'nodata' | 'nxdomain' | 'refused' | 'formerr' | 'notimp' | 'badvers';

export type Reply =
  | { kind: 'dropped'; reason: 'short' | 'response' }
  /** `message` is without TCP's length. */
  | { kind: 'answered'; outcome: Outcome; message: Buffer };

/**
 * @param packet one message, without TCP's length
 * @param zones a zone inside another one stands before it
 */
export function answer(packet: Buffer, transport: Transport, zones: readonly Zone[]): Reply {
  const reading = readQuery(packet);
  if (reading.kind === 'dropped') return reading;
  if (reading.kind === 'faulty') {
    const outcome = reading.rcode === RCODE.NOTIMP ? 'notimp' : 'formerr';
    return { kind: 'answered', outcome, message: encodeFault(reading.header, reading.rcode) };
  }
  const { outcome, response } = decide(reading.query, zones);
  return { kind: 'answered', outcome, message: encodeResponse(reading.query, response, transport) };
}

type Decision = { outcome: Outcome; response: Response };

function decide({ edns, question }: Query, zones: readonly Zone[]): Decision {
  // RFC 6891 §6.1.3: before all else, for a later version may give the rest another meaning.
  if (edns && edns.version !== 0) return refusal('badvers', RCODE.BADVERS);
  if (question.class !== CLASS_IN) return refusal('refused', RCODE.REFUSED);
  const unfit = unfitType(question.type);
  if (unfit) return unfit;
  for (const zone of zones) {
    const found = zone.find(question.key);
    if (found) return fromZone(zone, found, question.type);
  }
  return refusal('refused', RCODE.REFUSED);
}

/** Types that no record has (RFC 6895 §3.1: 128–254 and OPT), other than ANY. */
function unfitType(type: number): Decision | undefined {
  if (type === TYPE.AXFR || type === TYPE.IXFR) return refusal('refused', RCODE.REFUSED);
  if (type === TYPE.MAILA || type === TYPE.MAILB) return refusal('notimp', RCODE.NOTIMP);
  if (type === TYPE.OPT || (type >= 128 && type < TYPE.ANY)) return refusal('formerr', RCODE.FORMERR);
  return undefined;
}

function fromZone(zone: Zone, { apexAt, records }: Found, type: number): Decision {
  const authority = () => [{ ownerAt: apexAt, set: zone.negativeSoa() }];
  if (!records) return inZone('nxdomain', RCODE.NXDOMAIN, [], authority());
  const set = chosen(records, type);
  if (!set) return inZone('nodata', RCODE.NOERROR, [], authority());
  return inZone('noerror', RCODE.NOERROR, [{ ownerAt: 0, set }], []);
}

/** RFC 8482 §4.1: ANY gets one set, not all, so it is no lever for amplification. */
function chosen(records: readonly RecordSet[], type: number): RecordSet | undefined {
  return type === TYPE.ANY ? records[0] : records.find((set) => set.type === type);
}

function inZone(
  outcome: Outcome,
  rcode: number,
  answers: Response['answers'],
  authority: Response['authority'],
): Decision {
  return { outcome, response: { rcode, authoritative: true, answers, authority } };
}

function refusal(outcome: Outcome, rcode: number): Decision {
  return { outcome, response: { rcode, authoritative: false, answers: [], authority: [] } };
}
