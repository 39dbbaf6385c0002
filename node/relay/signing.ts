/**
 * DKIM signatures: the member's domain with RSA and Ed25519, the pool domain with RSA.
 *
 * Promise: all signatures or none. A failure is a value that the caller answers with 4xx; there is no
 * way through this file that yields fewer signatures than asked for. A body is hashed once for all
 * recipients. An added second From, To, Cc, Subject, Date, Reply-To or Message-ID breaks every signature.
 * The work is done in threads (signing-threads.ts); what is signed says signing-fields.ts.
 */
import { availableParallelism } from 'node:os';
import type { Logger } from 'pino';
import { type ReadyKey, ReadyKeyRing, type ReadyKeys, type SigningKey } from './signing-keys.ts';
import { type SignedAll, SigningThreads } from './signing-threads.ts';

export type { SigningKey } from './signing-keys.ts';

export type Signed =
  /** For each prefix whole header lines, each ended by CR LF, to be put before it; their time in Unix ms. */
  | { kind: 'signed'; signatures: Buffer[]; signedAt: number }
  /** For the log. */
  | { kind: 'failed'; reason: string };

export type SignerOptions = {
  /** The keys that sign for a member's domain now; one of each algorithm. */
  memberKeys: (domain: string) => SigningKey[];
  /** Changes whenever memberKeys would; asked for each message. Without it memberKeys itself is. */
  memberKeysVersion?: (domain: string) => string;
  /** Is this key still published, though another may sign by now? Default: only keys that sign now are. */
  isPublished?: (domain: string, selector: string) => boolean;
  poolKey: SigningKey | (() => SigningKey);
  /** From t= to x=. */
  expireMs: number;
  /** Default 2, or 1 where that would be every core. */
  threads?: number;
  /** How long a thread waits for another message before it ends. Default 1 min. */
  restMs?: number;
  now: () => number;
  log: Logger;
};

/** Older signatures are made again at the next attempt, far from their x=; sooner where that is near. */
const maxAgeMs = 24 * 3_600_000;
/** A signature from the future was made by a clock that went wrong. */
const clockToleranceMs = 5 * 60_000;
const signatureKeys = /^DKIM-Signature: [^\r]* d=([^;\r]+);\r\n s=([^;\r]+);/gm;

export class Signer {
  readonly #options: SignerOptions;
  readonly #keys: ReadyKeyRing;
  readonly #threads: SigningThreads;

  /** @throws Error when the pool's key cannot sign */
  static start(options: SignerOptions): Signer {
    const keys = new ReadyKeyRing(options);
    const pool = keys.ofPool();
    if (pool.kind === 'failed') throw new Error(`the pool's key cannot sign: ${pool.reason}`);
    return new Signer(options, keys);
  }

  private constructor(options: SignerOptions, keys: ReadyKeyRing) {
    this.#options = options;
    this.#keys = keys;
    const { threads = defaultThreads(), log, restMs } = options;
    this.#threads = new SigningThreads({ threads, log, ...(restMs !== undefined && { restMs }) });
  }

  /**
   * @param o.prefixes our own lines for each recipient, at least one; @param o.body the member's header and
   *   body, below them; it must not change until the answer
   * @throws CorruptState when the stored keys do not read
   */
  async sign(o: { prefixes: readonly Buffer[]; body: Buffer; domain: string }): Promise<Signed> {
    const member = this.#keys.ofMember(o.domain);
    const pool = this.#keys.ofPool();
    if (member.kind === 'failed') return member;
    return pool.kind === 'failed' ? pool : this.#signWith(o.body, o.prefixes, [...member.keys, ...pool.keys]);
  }

  /**
   * For our own mail: DSNs and notices.
   *
   * @returns header lines to be put before the message
   * @throws Error when it could not be signed
   */
  async signForPool(message: Buffer): Promise<Buffer> {
    const pool = this.#keys.ofPool();
    const signed =
      pool.kind === 'failed' ? pool : await this.#signWith(message, [Buffer.alloc(0)], pool.keys);
    if (signed.kind === 'failed') throw new Error(`our own mail could not be signed: ${signed.reason}`);
    return signed.signatures[0]!;
  }

  /** May these signatures leave now: less than 24 h old, all their keys still published? */
  isCurrent({ signatures, signedAt }: { signatures: Buffer; signedAt: number; domain: string }): boolean {
    const age = this.#options.now() - signedAt;
    if (age >= Math.min(maxAgeMs, this.#options.expireMs / 2) || age < -clockToleranceMs) return false;
    const keys = [...signatures.toString('latin1').matchAll(signatureKeys)];
    return keys.length > 0 && keys.every(([, domain, selector]) => this.#isPublished(domain!, selector!));
  }

  /** Ends what is under way, then the threads. */
  async close(): Promise<void> {
    await this.#threads.close();
  }

  #isPublished(domain: string, selector: string): boolean {
    const isKey = (key: ReadyKey): boolean => key.domain === domain && key.selector === selector;
    const isOneOf = (ready: ReadyKeys): boolean => ready.kind === 'ready' && ready.keys.some(isKey);
    if (isOneOf(this.#keys.ofPool())) return true;
    const { isPublished } = this.#options;
    return isPublished ? isPublished(domain, selector) : isOneOf(this.#keys.ofMember(domain));
  }

  async #signWith(
    message: Buffer,
    prefixes: readonly Buffer[],
    signers: readonly ReadyKey[],
  ): Promise<Signed> {
    const signedAt = this.#options.now();
    const at = Math.floor(signedAt / 1000);
    const expiresAt = at + Math.floor(this.#options.expireMs / 1000);
    const { headerEnd, bodyStart } = headerOf(message);
    const made = await this.#threads.sign({
      ...{ message, headerEnd, bodyStart, prefixes, signers, at, expiresAt },
    });
    if (made.kind === 'failed') return made;
    const wrong = fault(made, prefixes.length, signers);
    return wrong ? { kind: 'failed', reason: wrong } : { ...made, signedAt };
  }
}

function defaultThreads(): number {
  return Math.max(1, Math.min(2, availableParallelism() - 1));
}

/** The header with the CR LF of its last field; the body behind the empty line. */
function headerOf(message: Buffer): { headerEnd: number; bodyStart: number } {
  if (message.subarray(0, 2).equals(crlf)) return { headerEnd: 0, bodyStart: 2 };
  const empty = message.indexOf('\r\n\r\n');
  if (empty === -1) return { headerEnd: message.length, bodyStart: message.length };
  return { headerEnd: empty + 2, bodyStart: empty + 4 };
}
const crlf = Buffer.from('\r\n');

/** Counts what the threads made: as many as asked for, each of the length that its key makes. */
function fault(
  { signatures }: Extract<SignedAll, { kind: 'signed' }>,
  prefixes: number,
  signers: readonly ReadyKey[],
): string | undefined {
  if (prefixes === 0) return 'there is no recipient';
  if (signatures.length !== prefixes) return `${signatures.length} of ${prefixes} recipients were signed for`;
  for (const lines of signatures) {
    const made = lines.toString('latin1').match(/^DKIM-Signature: /gm)?.length ?? 0;
    if (made !== signers.length) return `${made} of ${signers.length} signatures were made`;
  }
  return undefined;
}
