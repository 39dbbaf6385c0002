/**
 * A third cooperative in a sandbox that runs: freshly initialised, with a member, and a stranger to the others.
 *
 * Promise: its folder is new each time, and so are its key and its DID's history; nothing of it is known to
 * Harbor and Meadow but what they learn when one of them adds it as a peer.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { init } from '../../node/cli/init.ts';
import { dnsRecords, enrolMember } from '../../node/cli/member.ts';
import { readConfig } from '../../node/config.ts';
import { poolDkimRecord } from '../../node/cooperative/dns-records.ts';
import { readKeys } from '../../node/cooperative/keys.ts';
import { attest } from '../../node/members/attest.ts';
import { keysDir } from '../../node/state.ts';
import { ensureAccount } from './accounts.ts';
import { newcomer as cast, newcomersMember } from './cast.ts';
import { configurationAt } from './configuration.ts';
import { Cooperative } from './cooperative.ts';
import { newcomerPorts, portsAt } from './ports.ts';
import { keptSecret, randomHex } from './secrets.ts';
import { type CooperativeWorld, cooperativeWorld, type World } from './world.ts';
import type { RecordSet } from './zone.ts';
import { cooperativeRecords, setsOf } from './zone-data.ts';

export type Newcomer = {
  world: CooperativeWorld;
  /** What an operator types to name it. */
  name: string;
  member: { handle: string; did: string; domain: string };
  node: Cooperative;
};

export type NewcomerOptions = {
  /** Of the world. */
  folder: string;
  world: Pick<World, 'pds'>;
  portOffset: number;
  /** Puts records into the DNS world. */
  publish: (sets: RecordSet[]) => void | Promise<void>;
  warming?: boolean;
  onEnd?: (reason: string) => void;
  signal?: AbortSignal;
};

/** Resolves when the node is ready and its member has attested. @throws when a port is taken or a part refuses */
export async function startNewcomer(o: NewcomerOptions): Promise<Newcomer> {
  const { folder, portOffset, onEnd = () => undefined } = o;
  const own = newcomerPorts(portOffset);
  const home = join(folder, 'dune');
  const configFile = await initialise(home, o);
  const member = await admitMember(configFile, o);
  const node = new Cooperative({ cast, configFile, logFile: join(home, 'node.log'), onEnd });
  await node.start(o.signal);
  const selectors = ['atmosr', 'atmose'];
  const { pds } = o.world;
  await attest({ pds, identifier: member.did, ...member, selectors, relayMember: true });
  const { did, handle, domain } = member;
  const world = cooperativeWorld('dune', cast, own);
  return { world, name: `localhost:${own.web}`, member: { did, handle, domain }, node };
}

/** As an operator does: `atmos init`, then the file is edited, here for loopback. */
async function initialise(
  home: string,
  { portOffset, publish, warming = false }: NewcomerOptions,
): Promise<string> {
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const file = join(home, 'atmos.jsonc');
  const own = newcomerPorts(portOffset);
  await init({ file, ...cast, url: `http://localhost:${own.web}` });
  writeFileSync(file, configurationAt(own, cast, portsAt(portOffset), { warming, peers: [] }));
  const { pool } = await readKeys(keysDir(readConfig(file)));
  await publish(cooperativeRecords(cast, poolDkimRecord(cast.domain, pool)));
  return file;
}

async function admitMember(configFile: string, { folder, world, publish }: NewcomerOptions) {
  const { handle, domains } = newcomersMember;
  // The account stays when the cooperative begins anew.
  const { password } = keptSecret(join(folder, 'newcomer.json'), () => ({ password: randomHex(12) }));
  const did = await ensureAccount({ pdsUrl: world.pds, handle, password });
  await enrolMember(configFile, { did, handle, domains, relay: true });
  for (const domain of domains) await publish(setsOf(await dnsRecords(configFile, domain)));
  return { did, handle, password, domain: domains[0]! };
}
