/**
 * The DKIM key at one selector: can mail that is signed today be verified with it? RFC 6376 §3.6.1, RFC 8463.
 *
 * Refused: a revoked key, RSA under 1024 bits, a key for something else than mail. Noted, and no more: RSA
 * under 2048 bits, `t=y`, a version that does not stand first.
 */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { type Finding, failed, passed } from './finding.ts';
import { parseTagList } from './tag-list.ts';

/** RFC 8301 §3.2: verifiers must not accept shorter ones, and signers should not use less than the second. */
const minRsaBits = 1024;
const goodRsaBits = 2048;

/** @returns `seen[selector]`: the SHA-256 of the key in hex, `revoked`, or empty where there is no one key */
export function judgeDkim(texts: string[], selector: string): Finding {
  const records = texts.map(parseTagList).filter((tags) => tags?.get('v') === 'DKIM1');
  const about = `selector ${selector}`;
  if (records.length === 0) {
    const other =
      texts.length === 0 ? '' : '; the TXT record there does not say v=DKIM1, which is required here';
    return { ...failed(`${about}: no DKIM key (v=DKIM1)${other}`), seen: { [selector]: '' } };
  }
  if (records.length > 1) return failed(`${about}: ${records.length} DKIM keys; leave one`);
  const tags = records[0]!;
  const fault = faultOfKey(tags);
  const notes = fault ? [] : notesOnKey(tags).map((note) => `${about}: ${note}`);
  const finding = fault ? failed(`${about}: ${fault}`) : passed(`${about}: key in place`, notes);
  return { ...finding, seen: { [selector]: fingerprint(tags) } };
}

function fingerprint(tags: Map<string, string>): string {
  const value = keyText(tags) ?? '';
  if (value === '') return 'revoked';
  return `sha256:${createHash('sha256').update(Buffer.from(value, 'base64')).digest('hex')}`;
}

/** RFC 6376 §3.6.1: white space may stand anywhere in it. */
function keyText(tags: Map<string, string>): string | undefined {
  return tags.get('p')?.replace(/\s/g, '');
}

/** One that is not there allows all. Words of RFC 6376 are literals of ABNF: case does not matter. */
function allows(tags: Map<string, string>, tag: string, ...values: string[]): boolean {
  const words = tags.get(tag)?.toLowerCase().split(':');
  return words?.some((value) => values.includes(value.trim())) ?? true;
}

function keyType(tags: Map<string, string>): string {
  return tags.get('k')?.toLowerCase() ?? 'rsa';
}

function faultOfKey(tags: Map<string, string>): string | undefined {
  if (!allows(tags, 's', '*', 'email')) return `the key is not for mail (s=${tags.get('s')})`;
  if (!allows(tags, 'h', 'sha256')) return `the key does not allow sha256 (h=${tags.get('h')})`;
  const value = keyText(tags);
  if (value === undefined) return 'no p= in the record';
  if (value === '') return 'the key is revoked (p= is empty)';
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(value)) return 'p= is not base64';
  const type = keyType(tags);
  if (type === 'ed25519') return faultOfEd25519(Buffer.from(value, 'base64'));
  if (type === 'rsa') return faultOfRsa(Buffer.from(value, 'base64'));
  return `unknown kind of key (k=${type})`;
}

/** RFC 8463 §4: the bare 32 bytes, without ASN.1 around them. */
function faultOfEd25519(key: Buffer): string | undefined {
  return key.length === 32 ? undefined : `an Ed25519 key has 32 bytes, this one ${key.length}`;
}

function faultOfRsa(der: Buffer): string | undefined {
  const bits = rsaBits(der);
  if (bits === undefined) return 'p= is not an RSA public key';
  return bits < minRsaBits ? `RSA of ${bits} bits; at least ${minRsaBits} are needed` : undefined;
}

function notesOnKey(tags: Map<string, string>): string[] {
  const notes: string[] = [];
  const bits = keyType(tags) === 'rsa' && rsaBits(Buffer.from(keyText(tags)!, 'base64'));
  if (bits && bits < goodRsaBits) notes.push(`RSA of ${bits} bits; ${goodRsaBits} are better`);
  if (tags.has('t') && allows(tags, 't', 'y')) notes.push('the key is for testing (t=y)');
  if ([...tags.keys()][0] !== 'v') notes.push('v=DKIM1 should stand first');
  return notes;
}

/** RFC 6376 names the bare RSAPublicKey, its erratum and every signer the SubjectPublicKeyInfo: both exist. */
function rsaBits(der: Buffer): number | undefined {
  const key = readRsa(der, 'spki') ?? readRsa(der, 'pkcs1');
  return key?.asymmetricKeyDetails?.modulusLength;
}

function readRsa(der: Buffer, type: 'spki' | 'pkcs1'): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: der, format: 'der', type });
    return key.asymmetricKeyType === 'rsa' ? key : undefined;
  } catch {
    return undefined;
  }
}
