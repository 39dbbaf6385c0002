/**
 * What lies in the state folder, opened the same way by the running node and by commands beside it.
 *
 * `node.db` may be open in several processes at once; `spool.db` belongs to the node's spool alone.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Database, openDatabase } from '../appview/database.ts';
import type { Config } from './config.ts';
import { type CooperativeKeys, ensureKeys, readKeys } from './cooperative/keys.ts';
import { newcomers } from './enrolment.ts';
import { Members } from './members/members.ts';
import { Seal } from './members/seal.ts';
import { nodeMigrations } from './migrations.ts';

export type Membership = { db: Database.Database; keys: CooperativeKeys; seal: Seal; members: Members };

export function keysDir(config: Config): string {
  return join(config.stateDir, 'keys');
}

/**
 * The cooperative's keys. A state folder without a database is new and gets them; in any other a missing
 * key was lost, and a new one would be another identity.
 *
 * @throws CorruptState when a key is missing beside a database, or is no usable key
 */
export function openKeys(config: Config): Promise<CooperativeKeys> {
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
  const dir = keysDir(config);
  return existsSync(databaseFile(config)) ? readKeys(dir) : ensureKeys(dir);
}

/**
 * Opens the keys and node.db, making both in a new state folder.
 *
 * @throws CorruptState when either is damaged; the caller closes `db`
 */
export async function openMembership(config: Config, now: () => number): Promise<Membership> {
  const keys = await openKeys(config);
  const db = openDatabase(databaseFile(config), nodeMigrations, { synchronous: 'FULL' });
  const seal = new Seal(keys.seal);
  const members = new Members({
    db,
    seal,
    poolDomain: config.domain,
    mailHost: config.hostname,
    domainsPerMember: config.caps.domainsPerMember,
    newcomers: newcomers(config, db, now),
    now,
  });
  return { db, keys, seal, members };
}

/** `node.db`. */
export function databaseFile(config: Config): string {
  return join(config.stateDir, 'node.db');
}
