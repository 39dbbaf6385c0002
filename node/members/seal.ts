/**
 * Secrets at rest: AES-256-GCM under one key of the node.
 *
 * Promise: what was sealed for one purpose opens for that purpose only, unchanged or not at all.
 * The key comes from state/keys and is never written by this file. Layout: nonce (12) ‖ tag (16) ‖ text.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { CorruptState } from '../../appview/database.ts';

const algorithm = 'aes-256-gcm';
const nonceBytes = 12;
const tagBytes = 16;

export class Seal {
  readonly #key: Buffer;

  /** @param key 32 bytes; @throws RangeError for another length */
  constructor(key: Buffer) {
    if (key.length !== 32) throw new RangeError(`a seal key has 32 bytes, not ${key.length}`);
    this.#key = key;
  }

  /** @param purpose bound to the result: a sealed secret moved to another row does not open there */
  close(secret: Buffer, purpose: string): Buffer {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithm, this.#key, nonce);
    cipher.setAAD(Buffer.from(purpose));
    const text = Buffer.concat([cipher.update(secret), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), text]);
  }

  /** @throws CorruptState when the bytes, the key or the purpose are not those of close() */
  open(sealed: Buffer, purpose: string): Buffer {
    try {
      const decipher = createDecipheriv(algorithm, this.#key, sealed.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      });
      decipher.setAAD(Buffer.from(purpose));
      decipher.setAuthTag(sealed.subarray(nonceBytes, nonceBytes + tagBytes));
      return Buffer.concat([decipher.update(sealed.subarray(nonceBytes + tagBytes)), decipher.final()]);
    } catch (cause) {
      throw new CorruptState(
        `The sealed secret for ${purpose} does not open. state/keys/seal.key and node.db must come from the same backup.`,
        { cause },
      );
    }
  }
}
