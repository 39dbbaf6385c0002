/** What `atmos keys …` does: acts on state/keys, which the running node looks at. */
import { readConfig } from '../config.ts';
import { poolDkimRecord } from '../cooperative/dns-records.ts';
import { dropPoolKey, neededUntil, newPoolKey, poolKeys, usePoolKey } from '../cooperative/pool-keys.ts';
import { overlapMs } from '../members/dkim-rotation.ts';
import { DnsResolver } from '../resolver.ts';
import { keysDir } from '../state.ts';
import { isPublished } from './published.ts';

/** None where no mail is sent from. @throws ConfigError, CorruptState */
export async function shownPoolKeys(configFile: string) {
  const config = readConfig(configFile);
  if (!config.roles.includes('relay')) return [];
  return poolKeys(keysDir(config)).map((key) => ({
    ...poolDkimRecord(config.domain, key),
    signs: key.signs,
  }));
}

/** @returns the record to publish. @throws ConfigError, CorruptState */
export async function beginPoolRotation(configFile: string) {
  const config = readConfig(configFile);
  return poolDkimRecord(config.domain, await newPoolKey(keysDir(config)));
}

/** @returns the selector that signs now. @throws Error when nothing waits, or DNS does not have it yet */
export async function activatePoolRotation(configFile: string): Promise<string> {
  const config = readConfig(configFile);
  const dir = keysDir(config);
  const newest = poolKeys(dir).at(-1)!;
  if (newest.signs) throw new Error('there is no new key. Make one: atmos keys rotate');
  const record = poolDkimRecord(config.domain, newest);
  const resolver = new DnsResolver({ servers: config.network.resolvers });
  if (!(await isPublished(resolver, record))) throw new Error(`not yet: DNS does not have ${record.name}`);
  usePoolKey(dir, newest.selector);
  return newest.selector;
}

/**
 * @param o.atOnce for a key that is no secret any more: what it signed can no longer be verified
 * @throws Error for the key that signs, one that is not there, or one whose signatures are still under way
 */
export function dropOldPoolKey(configFile: string, selector: string, o: { atOnce?: boolean } = {}): void {
  const dir = keysDir(readConfig(configFile));
  const isThere = poolKeys(dir).some((key) => key.selector === selector && !key.signs);
  const until = isThere ? neededUntil(dir, selector, overlapMs) : 0;
  if (!o.atOnce && until > Date.now()) {
    const date = new Date(until).toISOString();
    throw new Error(`${selector} signed mail that is still under way until ${date}; --at-once drops it now`);
  }
  dropPoolKey(dir, selector);
}
