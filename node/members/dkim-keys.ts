/**
 * DKIM key pairs of a member's domain: RSA-2048 for every verifier, Ed25519 (RFC 8463) beside it.
 *
 * Makes keys and writes their DNS records; where private keys rest is members.ts's business.
 */
import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';

export type DkimAlgorithm = 'rsa' | 'ed25519';

export type NewDkimKey = {
  /** `<base>r` or `<base>e`. */
  selector: string;
  algorithm: DkimAlgorithm;
  /** PKCS #8 PEM. */
  privateKey: string;
  /** The `p=` of the DNS record, base64. */
  publicKey: string;
};

const makePair = promisify(generateKeyPair);

/** @param base 1–62 characters of a DNS label; the selectors are `<base>r` and `<base>e` */
export async function makeDkimKeys(base: string): Promise<NewDkimKey[]> {
  const [rsa, ed25519] = await Promise.all([makePair('rsa', { modulusLength: 2048 }), makePair('ed25519')]);
  return [
    describe(`${base}r`, 'rsa', rsa.privateKey, spki(rsa.publicKey)),
    // RFC 8463 §4.2: the record carries the 32 raw bytes, which end the SPKI form.
    describe(`${base}e`, 'ed25519', ed25519.privateKey, spki(ed25519.publicKey).subarray(-32)),
  ];
}

/** The TXT value at `<selector>._domainkey.<domain>`. */
export function dkimRecord(algorithm: DkimAlgorithm, publicKey: string): string {
  return `v=DKIM1; k=${algorithm}; p=${publicKey}`;
}

function describe(selector: string, algorithm: DkimAlgorithm, key: KeyObject, publicKey: Buffer): NewDkimKey {
  const privateKey = key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { selector, algorithm, privateKey, publicKey: publicKey.toString('base64') };
}

function spki(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}
