/**
 * TSIG keys, as secondaries and this server share them.
 *
 * Only hmac-sha256 (RFC 8945 §6: the one that everybody must have). Nothing here prints a secret.
 */
import { hostKey, keyOfLabels, MAX_KEY_LENGTH, type NameKey } from '../name.ts';

export type TsigKey = {
  /** As text: `harbor-secondary`, in any case. Underscores are allowed. */
  name: string;
  secret: Uint8Array;
};

/** RFC 8945 §8 wants the digest's size and allows less; half of it is the least that we take. */
const MIN_SECRET_OCTETS = 16;

const label = /^[a-z0-9_-]{1,63}$/;

/**
 * One key a line, as `dig -y` and `kdig -y` take it: `hmac-sha256:name:secret in base64`. Blank lines and
 * lines that begin with # are left out.
 *
 * @throws RangeError that names the line, never its content
 */
export function parseKeys(text: string): TsigKey[] {
  return text.split('\n').flatMap((line, index) => {
    const trimmed = line.trim();
    return trimmed === '' || trimmed.startsWith('#') ? [] : [parseKey(trimmed, index + 1)];
  });
}

function parseKey(line: string, number: number): TsigKey {
  const [algorithm = '', name = '', secret = '', ...rest] = line.split(':');
  if (algorithm.toLowerCase() !== 'hmac-sha256' || rest.length > 0)
    throw new RangeError(`line ${number} is not of the form hmac-sha256:name:secret`);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(secret)) throw new RangeError(`line ${number}: the secret is no base64`);
  const key = { name, secret: Buffer.from(secret, 'base64') };
  try {
    requiredKeyName(key);
  } catch (error) {
    throw new RangeError(`line ${number}: ${(error as Error).message}`);
  }
  return key;
}

export type RingKey = { name: NameKey; text: string; secret: Uint8Array };

export class Keyring {
  readonly #keys: ReadonlyMap<NameKey, RingKey>;

  /** @throws RangeError for a name that is none, a short secret, or two keys of one name */
  constructor(keys: readonly TsigKey[]) {
    const ring = new Map<NameKey, RingKey>();
    for (const key of keys) {
      const name = requiredKeyName(key);
      if (ring.has(name)) throw new RangeError(`two TSIG keys are named ${key.name}`);
      ring.set(name, { name, text: key.name.toLowerCase(), secret: key.secret });
    }
    this.#keys = ring;
  }

  find(name: NameKey): RingKey | undefined {
    return this.#keys.get(name);
  }

  /** @throws RangeError when there is none of this name */
  named(text: string): RingKey {
    const key = this.#keys.get(keyName(text) ?? '');
    if (!key) throw new RangeError(`there is no TSIG key named ${text}`);
    return key;
  }
}

function requiredKeyName({ name, secret }: TsigKey): NameKey {
  const key = keyName(name);
  if (key === undefined) throw new RangeError(`${JSON.stringify(name)} cannot name a TSIG key`);
  if (secret.length < MIN_SECRET_OCTETS)
    throw new RangeError(`the secret of TSIG key ${name} has less than ${MIN_SECRET_OCTETS} octets`);
  return key;
}

function keyName(text: string): NameKey | undefined {
  const lower = text.toLowerCase().replace(/\.$/, '');
  const labels = lower.split('.');
  if (hostKey(lower) !== undefined) return hostKey(lower);
  const key = labels.every((part) => label.test(part)) ? keyOfLabels(labels) : '';
  return key !== '' && key.length <= MAX_KEY_LENGTH ? key : undefined;
}
