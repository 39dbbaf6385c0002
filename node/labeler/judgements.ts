/**
 * What the records of a sending domain must say: one pure function a check, records in, verdict out.
 *
 * They see only what was found; who was asked, and what a failing server means, is checks.ts's business.
 * Each refusal says what was observed and what is expected, for the member to read.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { MxRecord } from '../resolver.ts';
import type { Finding } from './finding.ts';
import { parseTagList } from './tag-list.ts';

const passed = (reason: string): Finding => ({ verdict: 'passed', reason });
const failed = (reason: string): Finding => ({ verdict: 'failed', reason });

/** RFC 8301 §3.2: verifiers must not accept shorter ones. */
const minRsaBits = 1024;

/**
 * `_atproto.<domain>` names exactly one DID, the member's.
 *
 * Two records that name different DIDs prove nothing for either (https://atproto.com/specs/handle).
 */
export function judgeControlRecord(texts: string[], did: string): Finding {
  const named = new Set(texts.filter((text) => text.startsWith('did=')).map((text) => text.slice(4).trim()));
  if (named.size === 0) return failed(`no TXT record with did=${did}`);
  if (named.size > 1) return failed('TXT records name several DIDs; leave one');
  return named.has(did) ? passed('the TXT record names the DID') : failed(`the TXT record names another DID`);
}

/** At least one server takes mail: replies and bounces have somewhere to go. */
export function judgeMx(records: MxRecord[]): Finding {
  // RFC 7505: an MX of "." says that the domain takes no mail at all.
  const servers = records.filter((record) => record.exchange !== '');
  if (servers.length > 0) return passed(`${servers.length} MX`);
  return failed(records.length === 0 ? 'no MX record' : 'the null MX says that the domain takes no mail');
}

/** One SPF record, which does not let the whole world send. `include` and `redirect` are not followed. */
export function judgeSpf(texts: string[]): Finding {
  // RFC 7208 §4.5: the version is a whole word; "v=spf10" is another thing.
  const records = texts.filter((text) => /^v=spf1(?: |$)/i.test(text));
  if (records.length === 0) return failed('no SPF record (v=spf1)');
  if (records.length > 1) return failed(`${records.length} SPF records; RFC 7208 allows one`);
  // RFC 7208 §4.6.2: the qualifier is optional and defaults to "+".
  const openDoor = records[0]!.split(' ').find((term) => /^\+?all$/i.test(term));
  return openDoor ? failed(`SPF ends in "${openDoor}", which lets everyone send`) : passed('SPF is in place');
}

/** The key at `<selector>._domainkey.<domain>` can verify mail signed today. */
export function judgeDkim(texts: string[], selector: string): Finding {
  const records = texts.map(parseTagList).filter((tags) => tags?.get('v') === 'DKIM1');
  if (records.length === 0) return failed(`selector ${selector}: no DKIM key (v=DKIM1)`);
  if (records.length > 1) return failed(`selector ${selector}: ${records.length} DKIM keys; leave one`);
  const fault = faultOfKey(records[0]!);
  return fault ? failed(`selector ${selector}: ${fault}`) : passed(`selector ${selector}: key in place`);
}

/** Receivers are told to act on failures: `p=quarantine` or `p=reject`. */
export function judgeDmarc(texts: string[]): Finding {
  // RFC 7489 §6.3: the version stands first, in this case.
  const records = texts.filter((text) => /^v\s*=\s*DMARC1\s*(?:;|$)/.test(text));
  if (records.length === 0) return failed('no DMARC record (v=DMARC1)');
  if (records.length > 1) return failed(`${records.length} DMARC records; leave one`);
  const policy = parseTagList(records[0]!)?.get('p')?.toLowerCase();
  if (policy === 'quarantine' || policy === 'reject') return passed(`DMARC p=${policy}`);
  return failed(`DMARC p=${policy ?? '(none)'}; quarantine or reject is expected`);
}

/** RFC 6376 §3.6.1, RFC 8463. */
function faultOfKey(tags: Map<string, string>): string | undefined {
  const allows = (tag: string, ...values: string[]) =>
    tags
      .get(tag)
      ?.split(':')
      .some((value) => values.includes(value.trim())) ?? true;
  if (!allows('s', '*', 'email')) return `the key is not for mail (s=${tags.get('s')})`;
  if (!allows('h', 'sha256')) return `the key does not allow sha256 (h=${tags.get('h')})`;
  const value = tags.get('p')?.replace(/\s/g, '');
  if (value === undefined) return 'no p= in the record';
  if (value === '') return 'the key is revoked (p= is empty)';
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(value)) return 'p= is not base64';
  const type = tags.get('k') ?? 'rsa';
  if (type === 'ed25519') return faultOfEd25519(Buffer.from(value, 'base64'));
  if (type === 'rsa') return faultOfRsa(Buffer.from(value, 'base64'));
  return `unknown kind of key (k=${type})`;
}

/** RFC 8463 §4: the bare 32 bytes, without ASN.1 around them. */
function faultOfEd25519(key: Buffer): string | undefined {
  return key.length === 32 ? undefined : `an Ed25519 key has 32 bytes, this one ${key.length}`;
}

function faultOfRsa(der: Buffer): string | undefined {
  const key = readRsa(der, 'spki') ?? readRsa(der, 'pkcs1');
  if (!key) return 'p= is not an RSA public key';
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  return bits < minRsaBits ? `RSA of ${bits} bits; at least ${minRsaBits} are needed` : undefined;
}

/** RFC 6376 names the bare RSAPublicKey, its erratum and every signer the SubjectPublicKeyInfo: both exist. */
function readRsa(der: Buffer, type: 'spki' | 'pkcs1'): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: der, format: 'der', type });
    return key.asymmetricKeyType === 'rsa' ? key : undefined;
  } catch {
    return undefined;
  }
}
