/**
 * DKIM signatures: the member's domain with RSA and Ed25519, the pool domain with RSA.
 *
 * Promise: all signatures or none. A failure is a value that the caller answers with 4xx; there is no
 * way through this file that yields fewer signatures than asked for.
 * Signs on the calling thread, about 2 ms for the three on a small message, and hashes the body for each;
 * the headers of RFC 6376 §5.4.1 are signed where they stand, not oversigned.
 */
import { dkimSign } from 'mailauth/lib/dkim/sign.js';

export type SigningKey = {
  /** `d=` */
  domain: string;
  /** `s=` */
  selector: string;
  algorithm: 'rsa' | 'ed25519';
  /** PKCS #8 PEM: mailauth takes no KeyObject (it then signs nothing and does not throw). */
  privateKey: string;
};

export type Signed =
  /** Whole header lines, each ended by CR LF, to be put before the message; their time in Unix ms. */
  | { kind: 'signed'; header: Buffer; signedAt: number }
  /** For the log. */
  | { kind: 'failed'; reason: string };

export type SignerOptions = {
  /** The keys that sign for a member's domain now; one of each algorithm. */
  memberKeys: (domain: string) => SigningKey[];
  poolKey: SigningKey;
  now: () => number;
};

/** What a reader relies on, and what is ours. */
const signedFields = [
  'From',
  'Sender',
  'Reply-To',
  'To',
  'Cc',
  'Subject',
  'Date',
  'Message-ID',
  'In-Reply-To',
  'References',
  'MIME-Version',
  'Content-Type',
  'Content-Transfer-Encoding',
  'Content-Disposition',
  'Content-Description',
  'Content-Language',
  'Content-ID',
  'List-Id',
  'List-Help',
  'List-Owner',
  'List-Post',
  'List-Archive',
  'List-Subscribe',
  'List-Unsubscribe',
  'List-Unsubscribe-Post',
  'Auto-Submitted',
  'Feedback-ID',
  'X-Atmos-Id',
  'X-Atmos-Member-Did',
];

export class Signer {
  readonly #options: SignerOptions;

  constructor(options: SignerOptions) {
    this.#options = options;
  }

  /** @param message as it will leave, our own lines included */
  async sign(message: Buffer, domain: string): Promise<Signed> {
    const keys = this.#options.memberKeys(domain);
    const missing = (['rsa', 'ed25519'] as const).find((name) => !keys.some((key) => key.algorithm === name));
    if (missing) return { kind: 'failed', reason: `${domain} has no ${missing} key` };
    return this.#signWith(message, [...keys, this.#options.poolKey]);
  }

  /**
   * For our own mail: DSNs and notices.
   *
   * @returns header lines to be put before the message
   * @throws Error when it could not be signed
   */
  async signForPool(message: Buffer): Promise<Buffer> {
    const signed = await this.#signWith(message, [this.#options.poolKey]);
    if (signed.kind === 'failed') throw new Error(`our own mail could not be signed: ${signed.reason}`);
    return signed.header;
  }

  async #signWith(message: Buffer, keys: readonly SigningKey[]): Promise<Signed> {
    const signedAt = this.#options.now();
    try {
      const { signatures, errors } = await dkimSign(message, {
        canonicalization: 'relaxed/relaxed',
        signTime: new Date(signedAt),
        headerList: signedFields,
        signatureData: keys.map(({ domain, selector, algorithm, privateKey }) => ({
          signingDomain: domain,
          selector,
          algorithm: `${algorithm}-sha256`,
          privateKey,
        })),
      } as Parameters<typeof dkimSign>[1]);
      if (errors.length > 0)
        return { kind: 'failed', reason: errors.map(({ err }) => err.message).join('; ') };
      const made = signatures.match(/^DKIM-Signature:/gim)?.length ?? 0;
      if (made !== keys.length)
        return { kind: 'failed', reason: `${made} of ${keys.length} signatures made` };
      return { kind: 'signed', header: Buffer.from(signatures), signedAt };
    } catch (error) {
      return { kind: 'failed', reason: (error as Error).message };
    }
  }
}
