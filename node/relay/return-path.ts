/**
 * Envelope senders on the wire: `b-<recipient id>-<tag>@<pool domain>`, one for each recipient (VERP).
 *
 * Promise: a bounce that comes back to such an address names its recipient, and nobody without the key
 * can make one. At most 64 octets before the `@` (RFC 5321 §4.5.3.1.1), and case does not matter, since
 * some servers on the way change it.
 */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';

const tagBytes = 10;
const shape = /^b-([0-9a-v]{16}\.[1-9]\d{0,5})-([0-9a-f]{20})$/;

export class ReturnPaths {
  /** A KeyObject: made of octets for each call, the key would cost more than the HMAC. */
  readonly #key: KeyObject;
  readonly #poolDomain: string;

  /** @param key verp.key, at least 16 random bytes */
  constructor(o: { key: Buffer; poolDomain: string }) {
    if (o.key.length < 16) throw new RangeError('a VERP key has at least 16 bytes');
    this.#key = createSecretKey(o.key);
    this.#poolDomain = o.poolDomain;
  }

  /** @param recipientId as in spool/ids.ts */
  of(recipientId: string): string {
    return `b-${recipientId}-${this.#tag(recipientId).toString('hex')}@${this.#poolDomain}`;
  }

  /** @returns the recipient id, or undefined when the address is not one that this node made */
  recipientOf(address: string): string | undefined {
    const at = address.lastIndexOf('@');
    if (address.slice(at + 1).toLowerCase() !== this.#poolDomain) return undefined;
    const [, recipientId, tag] = shape.exec(address.slice(0, at).toLowerCase()) ?? [];
    if (!recipientId || !tag) return undefined;
    return timingSafeEqual(Buffer.from(tag, 'hex'), this.#tag(recipientId)) ? recipientId : undefined;
  }

  #tag(recipientId: string): Buffer {
    return createHmac('sha256', this.#key).update(`verp:${recipientId}`).digest().subarray(0, tagBytes);
  }
}
