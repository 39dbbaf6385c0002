/** Whom the labels of the benchmark are about. */
import { createHash } from 'node:crypto';

export const src = 'did:web:harbor.example';
export const val = 'verified-mail-operator';
export const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
/** What a wide question finds. */
export const labelsPerMember = 50;

const base32 = 'abcdefghijklmnopqrstuvwxyz234567';

/** Spread like those of a PLC directory. */
export function memberDid(n: number): string {
  const digest = createHash('sha256').update(String(n)).digest();
  return `did:plc:${Array.from(digest.subarray(0, 24), (byte) => base32[byte & 31]).join('')}`;
}

export function uriOf(did: string, n: number): string {
  return `at://${did}/email.atmos.attestation/mail${n}.members.example`;
}
