/** Who may have a zone: rules of a prefix, a key, or both; without a rule nobody. */
import { isInPrefix, type Prefix, parsePrefix } from '../access/prefix.ts';
import type { Client } from '../seams.ts';
import type { Keyring } from './keys.ts';

export type TransferRule = {
  /** `192.0.2.0/24`, `2001:db8::/48`, or one address. Absent: from anywhere, if a key is asked for. */
  prefix?: string;
  /** The name of a TSIG key with which the request must be signed. Absent: unsigned is enough. */
  key?: string;
};

type Rule = { prefix: Prefix | undefined; key: string | undefined };

export class AllowList {
  readonly #rules: readonly Rule[];

  /** @throws RangeError for a rule that names neither, no prefix, or no key of the ring */
  constructor(rules: readonly TransferRule[], keyring: Keyring) {
    this.#rules = rules.map(({ prefix, key }) => {
      if (prefix === undefined && key === undefined)
        throw new RangeError('a transfer rule needs a prefix or a key');
      return {
        prefix: prefix === undefined ? undefined : requiredPrefix(prefix),
        key: key === undefined ? undefined : keyring.named(key).name,
      };
    });
  }

  /** @param key the name of the key that signed the request, verified */
  allows(client: Client, key: string | undefined): boolean {
    return this.#rules.some(
      (rule) =>
        (rule.key === undefined || rule.key === key) &&
        (rule.prefix === undefined || isInPrefix(rule.prefix, client)),
    );
  }
}

function requiredPrefix(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (!prefix) throw new RangeError(`${text} is no address or prefix`);
  return prefix;
}
