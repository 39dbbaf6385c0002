/** Who signed a message, and rightly? And what does an IXFR's client have? */
import { TYPE } from '../records.ts';
import { type Query, RCODE, readQuery } from '../wire.ts';
import type { Keyring } from './keys.ts';
import { clientSerial, recordsIn } from './message-records.ts';
import { bareAnswer } from './message-writer.ts';
import { readTsig, Signer, type Tsig, tsigOctets, type Verdict, verify, withTsigError } from './tsig.ts';

export type TransferRequest = {
  query: Query;
  /** The serial that an IXFR's client has. */
  serial: number | undefined;
  /** Verified; undefined of an unsigned request. */
  keyName: string | undefined;
  /** Octets that signing adds to a message. */
  signatureOctets: number;
  /** Signs the next message of the answer, if the request was signed. */
  sign(message: Buffer): Buffer;
};

export type RequestReading =
  | { kind: 'request'; request: TransferRequest }
  /** The signature is wrong: the answer says how. */
  | { kind: 'rejected'; query: Query; reason: Exclude<Verdict['kind'], 'valid'>; answer: Buffer }
  /** Nothing that could be read. */
  | { kind: 'other' };

/** @param now Unix ms */
export function readRequest(message: Buffer, keyring: Keyring, now: () => number): RequestReading {
  const reading = readQuery(message);
  if (reading.kind !== 'query') return { kind: 'other' };
  const { query } = reading;
  const records = recordsIn(message);
  const tsig = readTsig(message, records);
  if (tsig === 'broken') return formerr(query);
  const request = { query, serial: clientSerial(message, records ?? [], TYPE.SOA) };
  if (tsig === 'none') return { kind: 'request', request: { ...request, ...unsignedRequest } };
  const verdict = verify(message, tsig, keyring, now());
  if (verdict.kind !== 'valid') return rejected(query, tsig, verdict, now());
  const signer = new Signer(verdict.key, tsig.mac, now);
  return {
    kind: 'request',
    request: {
      ...request,
      keyName: verdict.key.name,
      signatureOctets: tsigOctets(verdict.key),
      sign: (answer) => signer.sign(answer),
    },
  };
}

const unsignedRequest = { keyName: undefined, signatureOctets: 0, sign: (answer: Buffer) => answer };

function formerr(query: Query): RequestReading {
  return { kind: 'rejected', query, reason: 'formerr', answer: bareAnswer(query, RCODE.FORMERR) };
}

function rejected(
  query: Query,
  tsig: Tsig,
  verdict: Exclude<Verdict, { kind: 'valid' }>,
  nowMs: number,
): RequestReading {
  if (verdict.kind === 'formerr') return formerr(query);
  const answer = withTsigError(bareAnswer(query, RCODE.NOTAUTH), tsig, verdict, nowMs);
  return { kind: 'rejected', query, reason: verdict.kind, answer };
}
