/**
 * What lies in the state folder, opened the same way by the running node and by commands beside it.
 *
 * `node.db` may be open in several processes at once; `spool.db` belongs to the node's spool alone.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Database, openDatabase } from '../appview/database.ts';
import type { Config } from './config.ts';
import { type CooperativeKeys, ensureKeys } from './cooperative/keys.ts';
import { Members } from './members/members.ts';
import { Seal } from './members/seal.ts';
import { nodeMigrations } from './migrations.ts';

export type Membership = { db: Database.Database; keys: CooperativeKeys; members: Members };

export function keysDir(config: Config): string {
  return join(config.stateDir, 'keys');
}

/**
 * Opens node.db and the keys, making both where they are missing.
 *
 * @throws CorruptState when either is damaged; the caller closes `db`
 */
export async function openMembership(config: Config, now: () => number): Promise<Membership> {
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
  chmodSync(config.stateDir, 0o700);
  const keys = await ensureKeys(keysDir(config));
  const db = openDatabase(join(config.stateDir, 'node.db'), nodeMigrations, { synchronous: 'FULL' });
  const members = new Members({
    db,
    seal: new Seal(keys.seal),
    poolDomain: config.domain,
    mailHost: config.hostname,
    now,
  });
  return { db, keys, members };
}
