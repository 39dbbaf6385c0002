/**
 * Links to unsubscribe: `<public URL>/u/<token>`, one for each recipient of bulk mail.
 *
 * Promise: a token names member, address and recipient without a row in any database; nobody without the
 * key can read one or make one. The same recipient always has the same token.
 * What a call does is unsubscribe.ts's business.
 */
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, type KeyObject } from 'node:crypto';

export type Unsubscription = {
  did: string;
  address: string;
  /** As in spool/ids.ts. */
  recipientId: string;
};

const cipherName = 'aes-256-gcm';
const nonceBytes = 12;
const tagBytes = 16;
/** Longer than any that of() makes: DID 250, address 320, recipient id 23. */
const maxTokenLength = 1_000;
const shape = /^[A-Za-z0-9_-]+$/;
/** What nearly every DID begins with travels as nothing. */
const plc = 'did:plc:';

export class UnsubscribeLinks {
  /** KeyObjects: made of octets for each call, a key would cost more than its use. */
  readonly #encryption: KeyObject;
  readonly #nonces: KeyObject;
  readonly #base: string;

  /** @param o.key at least 16 random bytes; others may be made of the same key; @param o.publicUrl of the web pages */
  constructor(o: { key: Buffer; publicUrl: string }) {
    if (o.key.length < 16) throw new RangeError('a key for links has at least 16 bytes');
    const derived = (use: string): KeyObject =>
      createSecretKey(createHmac('sha256', o.key).update(`unsubscribe: ${use}`).digest());
    this.#encryption = derived('encryption');
    this.#nonces = derived('nonces');
    this.#base = `${o.publicUrl.replace(/\/+$/, '')}/u/`;
  }

  of({ did, address, recipientId }: Unsubscription): string {
    const who = did.startsWith(plc) ? did.slice(plc.length) : did;
    const text = Buffer.from(`${recipientId}\n${who}\n${address}`);
    // Of the text itself, since a random one would come twice within 2^48 links; equal texts give equal tokens.
    const nonce = createHmac('sha256', this.#nonces).update(text).digest().subarray(0, nonceBytes);
    const cipher = createCipheriv(cipherName, this.#encryption, nonce);
    const sealed = Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]);
    return this.#base + sealed.toString('base64url');
  }

  /** @param token as the URL ends; @returns undefined for what of() did not make */
  read(token: string): Unsubscription | undefined {
    if (token.length > maxTokenLength || !shape.test(token)) return undefined;
    const text = this.#open(Buffer.from(token, 'base64url'));
    if (text === undefined) return undefined;
    const [recipientId, who, address] = text.split('\n') as [string, string, string];
    return { recipientId, did: who.startsWith('did:') ? who : plc + who, address };
  }

  #open(sealed: Buffer): string | undefined {
    if (sealed.length <= nonceBytes + tagBytes) return undefined;
    const decipher = createDecipheriv(cipherName, this.#encryption, sealed.subarray(0, nonceBytes), {
      authTagLength: tagBytes,
    });
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    try {
      const start = decipher.update(sealed.subarray(nonceBytes, -tagBytes));
      return Buffer.concat([start, decipher.final()]).toString();
    } catch {
      return undefined;
    }
  }
}
