/**
 * Keys ready to sign: parsed and checked once, and again as soon as they change.
 *
 * Promise: a key of the wrong kind, too short, or under a name that would break out of the signature is an
 * error with a reason, never half a set. At most a fixed number of domains is kept.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';

export type SigningKey = {
  /** `d=` */
  domain: string;
  /** `s=` */
  selector: string;
  algorithm: 'rsa' | 'ed25519';
  /** PKCS #8 PEM. Never logged. */
  privateKey: string;
};

export type ReadyKey = Omit<SigningKey, 'privateKey'> & {
  key: KeyObject;
  /** Never used for another key. */
  number: number;
};

export type ReadyKeys = { kind: 'ready'; keys: readonly ReadyKey[] } | { kind: 'failed'; reason: string };

export type MemberKeySource = {
  memberKeys: (domain: string) => SigningKey[];
  memberKeysVersion?: ((domain: string) => string) | undefined;
  poolKey: SigningKey | (() => SigningKey);
};

const maxDomains = 1_000;
/** RFC 8301 §3.2 asks for 1024, and mail providers for more. */
const minRsaBits = 2048;
/** RFC 6376 §3.1, §3.5; a name in A-labels. */
const nameSyntax = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;

export class ReadyKeyRing {
  readonly #source: MemberKeySource;
  readonly #domains = new Map<string, { version: string; ready: ReadyKeys }>();
  #pool: { from: SigningKey; ready: ReadyKeys } | undefined;
  #lastNumber = 0;

  constructor(source: MemberKeySource) {
    this.#source = source;
  }

  /**
   * The member's RSA key, then its Ed25519 key: some verifiers stop at the first that they do not know.
   *
   * @throws CorruptState when the stored keys do not read
   */
  ofMember(domain: string): ReadyKeys {
    const { memberKeys, memberKeysVersion } = this.#source;
    const given = memberKeysVersion ? undefined : memberKeys(domain);
    const version = given ? JSON.stringify(given) : memberKeysVersion!(domain);
    const known = this.#domains.get(domain);
    if (known?.version === version) return known.ready;
    const ready = this.#makeReady(domain, given ?? memberKeys(domain));
    // The one that came first goes: whoever still sends comes back at the price of one parsing.
    if (this.#domains.size >= maxDomains) this.#domains.delete(this.#domains.keys().next().value!);
    this.#domains.delete(domain);
    this.#domains.set(domain, { version, ready });
    return ready;
  }

  ofPool(): ReadyKeys {
    const { poolKey } = this.#source;
    const from = typeof poolKey === 'function' ? poolKey() : poolKey;
    if (this.#pool?.from.privateKey !== from.privateKey || this.#pool.from.selector !== from.selector)
      this.#pool = { from, ready: this.#ready(() => [this.#parse(from)]) };
    return this.#pool.ready;
  }

  #makeReady(domain: string, keys: readonly SigningKey[]): ReadyKeys {
    return this.#ready(() =>
      (['rsa', 'ed25519'] as const).map((algorithm) => {
        const key = keys.find((one) => one.algorithm === algorithm);
        if (!key) throw new Error(`${domain} has no ${algorithm} key`);
        return this.#parse(key);
      }),
    );
  }

  #ready(parse: () => ReadyKey[]): ReadyKeys {
    try {
      return { kind: 'ready', keys: parse() };
    } catch (error) {
      return { kind: 'failed', reason: (error as Error).message };
    }
  }

  #parse({ domain, selector, algorithm, privateKey }: SigningKey): ReadyKey {
    if (!nameSyntax.test(selector) || !nameSyntax.test(domain))
      throw new Error(`${JSON.stringify(`${selector}._domainkey.${domain}`)} is no name of a key`);
    const key = parsed(privateKey);
    const bits = key?.asymmetricKeyDetails?.modulusLength ?? 0;
    if (key?.asymmetricKeyType !== algorithm || (algorithm === 'rsa' && bits < minRsaBits))
      throw new Error(`${selector}._domainkey.${domain} is no ${algorithm} key that can sign`);
    return { domain, selector, algorithm, key, number: ++this.#lastNumber };
  }
}

/** Without the cause: parsers like to quote what they were given. */
function parsed(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}
