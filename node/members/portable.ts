/**
 * Moving home: a member's DKIM keys as one file under a passphrase, for enrolment at another cooperative.
 *
 * Promise: what opens is what was sealed, whole and by this passphrase; a wrong passphrase and a damaged file read
 * the same. The cost of opening is bounded, whatever the file says. Nothing of it is ever logged.
 *
 * The file is one JSON object:
 *
 *   { "format": "email.atmos.member", "version": 1,
 *     "kdf": { "name": "scrypt", "N": 131072, "r": 8, "p": 1, "salt": base64 of 16 bytes },
 *     "cipher": { "name": "aes-256-gcm", "nonce": base64 of 12 bytes },
 *     "data": base64 of the sealed text and its tag of 16 bytes }
 *
 * The key is scrypt(passphrase in NFKC, salt), 32 bytes. The additional data are the other members of the object,
 * in this order, as JSON without blanks. The sealed text is the JSON of a PortableMember.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  scrypt,
} from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { NewDkimKey } from './dkim-keys.ts';
import { normalizeDomain } from './domain-name.ts';

export type PortableMember = {
  did: string;
  handle: string | null;
  /** DID of the cooperative that it comes from. */
  from: string;
  /** Unix ms. */
  exportedAt: number;
  domains: { name: string; keys: NewDkimKey[] }[];
};

/** `wrong-passphrase`: or a damaged file; nobody can tell. `not-an-export`: not even the form is right. */
export type PortableRefusal = 'not-an-export' | 'wrong-passphrase' | 'bad-content';

export const maxPortableBytes = 1024 * 1024;
/** Of a passphrase, in code points. */
export const shortestPassphrase = 12;

/** 128 MiB and some tenths of a second. Less is accepted down to 2^14, more is not. */
const cost = { N: 131_072, r: 8, p: 1 } as const;
const maxMemory = 256 * 1024 * 1024;
const tagBytes = 16;

const derive = promisify<string, Buffer, number, object, Buffer>(scrypt);

const base64 = z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/);
const fileShape = z.strictObject({
  format: z.literal('email.atmos.member'),
  version: z.literal(1),
  kdf: z.strictObject({
    name: z.literal('scrypt'),
    N: z.union([z.literal(16_384), z.literal(32_768), z.literal(65_536), z.literal(131_072)]),
    r: z.literal(8),
    p: z.literal(1),
    salt: base64.length(24),
  }),
  cipher: z.strictObject({ name: z.literal('aes-256-gcm'), nonce: base64.length(16) }),
  data: base64.max(maxPortableBytes),
});

const memberShape = z.strictObject({
  did: z.string().max(255),
  handle: z.string().max(253).nullable(),
  from: z.string().max(2_048),
  exportedAt: z.number(),
  domains: z
    .array(
      z.strictObject({
        name: z.string().refine((name) => normalizeDomain(name) === name),
        keys: z
          .array(
            z.strictObject({
              selector: z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/),
              algorithm: z.enum(['rsa', 'ed25519']),
              privateKey: z.string().max(16_384),
              publicKey: base64.max(4_096),
            }),
          )
          .min(1)
          .max(8),
      }),
    )
    .min(1)
    .max(1_000),
});

type Header = Omit<z.output<typeof fileShape>, 'data'>;

/** @throws RangeError for a passphrase that is too short to protect anything */
export async function sealMember(member: PortableMember, passphrase: string): Promise<string> {
  if ([...passphrase].length < shortestPassphrase)
    throw new RangeError(`A passphrase has at least ${shortestPassphrase} characters.`);
  const header: Header = {
    format: 'email.atmos.member',
    version: 1,
    kdf: { name: 'scrypt', ...cost, salt: randomBytes(16).toString('base64') },
    cipher: { name: 'aes-256-gcm', nonce: randomBytes(12).toString('base64') },
  };
  const cipher = createCipheriv('aes-256-gcm', await keyOf(passphrase, header), nonceOf(header));
  cipher.setAAD(boundTo(header));
  const sealed = Buffer.concat([
    cipher.update(JSON.stringify(member), 'utf8'),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  return `${JSON.stringify({ ...header, data: sealed.toString('base64') }, null, 2)}\n`;
}

export async function openMember(
  text: string,
  passphrase: string,
): Promise<PortableMember | PortableRefusal> {
  const file = text.length <= maxPortableBytes ? fileShape.safeParse(parsed(text)) : undefined;
  if (!file?.success) return 'not-an-export';
  const { data, ...header } = file.data;
  const plain = unsealed(Buffer.from(data, 'base64'), await keyOf(passphrase, header), header);
  if (!plain) return 'wrong-passphrase';
  const member = memberShape.safeParse(parsed(plain.toString('utf8')));
  return member.success && member.data.domains.every(hasItsKeys) ? member.data : 'bad-content';
}

function unsealed(sealed: Buffer, key: Buffer, header: Header): Buffer | undefined {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(header), { authTagLength: tagBytes });
    decipher.setAAD(boundTo(header));
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    return Buffer.concat([decipher.update(sealed.subarray(0, -tagBytes)), decipher.final()]);
  } catch {
    return undefined;
  }
}

/** Signatures of keys that are not those in DNS would be worse than none. */
function hasItsKeys({ keys }: PortableMember['domains'][number]): boolean {
  const isOnce = new Set(keys.map(({ selector }) => selector)).size === keys.length;
  return isOnce && keys.every(isPair);
}

function isPair({ algorithm, privateKey, publicKey }: NewDkimKey): boolean {
  try {
    const secret = createPrivateKey(privateKey);
    if (secret.asymmetricKeyType !== algorithm) return false;
    const spki = createPublicKey(secret).export({ type: 'spki', format: 'der' });
    // RFC 8463 §4.2: the record carries the 32 raw bytes, which end the SPKI form.
    const record = algorithm === 'ed25519' ? spki.subarray(-32) : spki;
    const bits = secret.asymmetricKeyDetails?.modulusLength ?? 2_048;
    return record.toString('base64') === publicKey && bits >= 1_024 && bits <= 4_096;
  } catch {
    return false;
  }
}

function keyOf(passphrase: string, { kdf: { N, r, p, salt } }: Header): Promise<Buffer> {
  const limits = { N, r, p, maxmem: maxMemory };
  return derive(passphrase.normalize('NFKC'), Buffer.from(salt, 'base64'), 32, limits);
}

function nonceOf({ cipher }: Header): Buffer {
  return Buffer.from(cipher.nonce, 'base64');
}

function boundTo({ format, version, kdf, cipher }: Header): Buffer {
  const { name, N, r, p, salt } = kdf;
  const bound = {
    format,
    version,
    kdf: { name, N, r, p, salt },
    cipher: { name: cipher.name, nonce: cipher.nonce },
  };
  return Buffer.from(JSON.stringify(bound));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
