/** What `atmos dkim …` does: acts on node.db, also while the node runs, which signs by what stands there. */
import { readConfig } from '../config.ts';
import { DkimRotation, type KeyState } from '../members/dkim-rotation.ts';
import { normalizeDomain } from '../members/domain-name.ts';
import { DnsResolver } from '../resolver.ts';
import { openMembership } from '../state.ts';
import { isPublished } from './published.ts';

export type Activation =
  | { kind: 'activated' }
  /** The names of the records that DNS does not have as they should be. */
  | { kind: 'not-published'; missing: string[] }
  | { kind: 'nothing-pending' };

/** Newest first. @throws ConfigError; RangeError when the domain is not enrolled */
export function dkimStatus(configFile: string, domain: string): Promise<KeyState[]> {
  return withRotation(configFile, domain, async (rotation, name) => rotation.state(name));
}

/** @returns the records to publish. @throws ConfigError; RangeError when the domain is not enrolled */
export function beginRotation(
  configFile: string,
  domain: string,
): Promise<{ name: string; value: string }[]> {
  return withRotation(configFile, domain, (rotation, name) => rotation.begin(name));
}

/**
 * Asks the configured resolvers first: a key that nobody can look up must not sign.
 *
 * @param o.atOnce the old keys end now; mail that they signed is signed again before it leaves
 * @throws as the others
 */
export function activateRotation(
  configFile: string,
  domain: string,
  o: { atOnce?: boolean } = {},
): Promise<Activation> {
  return withRotation(configFile, domain, async (rotation, name) => {
    const records = rotation.pendingRecords(name);
    if (records.length === 0) return { kind: 'nothing-pending' };
    const resolver = new DnsResolver({ servers: readConfig(configFile).network.resolvers });
    const isThere = await Promise.all(records.map((record) => isPublished(resolver, record)));
    const missing = records.filter((_, i) => !isThere[i]).map((record) => record.name);
    if (missing.length > 0) return { kind: 'not-published', missing };
    rotation.activate(name, o.atOnce ? { overlapMs: 0 } : {});
    return { kind: 'activated' };
  });
}

/** @returns false when nothing waits. @throws as the others */
export function abandonRotation(configFile: string, domain: string): Promise<boolean> {
  return withRotation(configFile, domain, async (rotation, name) => rotation.abandon(name));
}

async function withRotation<T>(
  configFile: string,
  domain: string,
  act: (rotation: DkimRotation, name: string) => Promise<T>,
): Promise<T> {
  const { db, seal, members } = await openMembership(readConfig(configFile), Date.now);
  try {
    const enrolled = members.domain(normalizeDomain(domain) ?? domain);
    if (!enrolled) throw new RangeError(`${domain} is not enrolled`);
    return await act(new DkimRotation({ db, seal, now: Date.now }), enrolled.name);
  } finally {
    db.close();
  }
}
