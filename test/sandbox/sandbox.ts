/**
 * The world in a box: starts every part, tells the story, stops every part.
 *
 *   1. DNS world, inbox, PLC directory and PDS, in this process
 *   2. both cooperatives, as child processes of the real program, and meanwhile
 *      the members' accounts, enrolments and DNS records
 *   3. the story; then world.json says where everything is
 *
 * Promise: when `startSandbox` fails nothing is left running, and so after `stop`. The ports must be free
 * (ports.ts: `probe`, `freeOffset`). Started again with the same folder, it is the same world.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PDS } from '@atproto/pds';
import { dnsRecords } from '../../node/cli/member.ts';
import { readConfig } from '../../node/config.ts';
import { selfSignedCertificate } from '../../node/cooperative/certificate.ts';
import { poolDkimRecord } from '../../node/cooperative/dns-records.ts';
import { keysDir, openMembership } from '../../node/state.ts';
import { type CooperativeKey, cooperatives, type ResidentCast } from './cast.ts';
import { configurationOf } from './configuration.ts';
import { Cooperative } from './cooperative.ts';
import { DnsWorld } from './dns-world.ts';
import { Inbox } from './inbox.ts';
import { startInboxWeb } from './inbox-web.ts';
import { type Membership, Memberships } from './memberships.ts';
import { Plc } from './plc.ts';
import { type Ports, portsAt } from './ports.ts';
import { signatureCheck } from './signatures.ts';
import { type Step, type Story, settle, tell } from './story.ts';
import { type World, worldOf, writeWorld } from './world.ts';
import type { Zone } from './zone.ts';
import { cooperativeRecords, inboxRecords, publish, selectorsIn, setsOf } from './zone-data.ts';

export type SandboxOptions = {
  /** Folder of the world; made when missing. */
  folder: string;
  /** Added to every default port. */
  portOffset: number;
  /** Forget the world that is in the folder. */
  fresh?: boolean;
  /** Members start in their first days: low caps, trust 0. */
  warming?: boolean;
  onStep?: (step: Step) => void;
  /** A cooperative that was ready ended unasked. */
  onEnd?: (reason: string) => void;
  /** Stops a start that is under way. */
  signal?: AbortSignal;
};

export type Sandbox = {
  world: World;
  worldFile: string;
  zone: Zone;
  inbox: Inbox;
  cooperatives: Record<CooperativeKey, Cooperative>;
  stop(): Promise<void>;
};

/** What a folder of ours holds; nothing else in it is ever removed. */
const entries = [
  'world.json',
  'members.json',
  'plc.jsonl',
  'pds',
  'inbox',
  'harbor',
  'meadow',
  'dune',
  'newcomer.json',
];

/**
 * @throws WrongWorld, PlcFileDamaged; Error when a part does not start or a step of the story does not happen
 */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const { folder, portOffset } = options;
  if (options.fresh)
    for (const entry of entries) rmSync(join(folder, entry), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const ports = portsAt(portOffset);
  const memberships = new Memberships(folder, portOffset);
  const everything = new AsyncDisposableStack();
  // Below the nodes on the stack, so that they end first and find the others still there.
  const parts = everything.use(new AsyncDisposableStack());
  try {
    const { dns, inbox } = await startDnsAndInbox(folder, ports, parts);
    const [nodes, pds] = await together(
      prepareCooperatives(options, ports, dns.zone),
      startNetwork(folder, ports, parts),
    );
    const running = Object.values(nodes);
    everything.defer(async () => void (await Promise.all(running.map((node) => node.stop()))));
    const [people] = await together(
      admitMembers(memberships, pds, nodes, dns.zone),
      // After the PDS, whose firehose they would else find missing and wait before they look again.
      Promise.all(running.map((node) => node.start(options.signal))),
    );
    const world = worldOf(ports, people);
    await tellStory({ options, world, people, inbox, zone: dns.zone });
    const worldFile = writeWorld(folder, world);
    return {
      world,
      worldFile,
      zone: dns.zone,
      inbox,
      cooperatives: nodes,
      stop: () => everything.disposeAsync(),
    };
  } catch (error) {
    await everything.disposeAsync();
    throw error;
  }
}

/** Waits for all, also when one fails, so that nothing is still starting while the rest is stopped. */
async function together<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

async function startDnsAndInbox(
  folder: string,
  ports: Ports,
  parts: AsyncDisposableStack,
): Promise<{ dns: DnsWorld; inbox: Inbox }> {
  const dns = await DnsWorld.start({ port: ports.resolver });
  parts.defer(() => dns.stop());
  publish(dns.zone, inboxRecords);
  const tls = await selfSignedCertificate({
    dir: join(folder, 'inbox'),
    names: ['mx.inbox.test'],
    now: Date.now,
  });
  const inbox = await Inbox.start({ port: ports.inbox.smtp, tls, checkSignatures: signatureCheck(dns) });
  parts.defer(() => inbox.stop());
  const web = await startInboxWeb({ inbox, zone: dns.zone, port: ports.inbox.web });
  parts.defer(() => web.stop());
  return { dns, inbox };
}

/** Configuration, keys and databases, and the DNS records of the pool domains. */
async function prepareCooperatives(
  options: SandboxOptions,
  ports: Ports,
  zone: Zone,
): Promise<Record<CooperativeKey, Cooperative>> {
  const prepared = await Promise.all(
    cooperatives.map(
      async (cast) => [cast.key, await prepareCooperative(cast, options, ports, zone)] as const,
    ),
  );
  return Object.fromEntries(prepared) as Record<CooperativeKey, Cooperative>;
}

async function prepareCooperative(
  cast: ResidentCast,
  { folder, warming = false, onEnd = () => undefined }: SandboxOptions,
  ports: Ports,
  zone: Zone,
): Promise<Cooperative> {
  const home = join(folder, cast.key);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const configFile = join(home, 'atmos.jsonc');
  writeFileSync(configFile, configurationOf(cast, ports, { warming }), { mode: 0o600 });
  // Made here, before the node runs, so that the two never make the same database at the same moment.
  const config = readConfig(configFile);
  const { db, keys } = await openMembership(config, Date.now);
  db.close();
  await selfSignedCertificate({ dir: keysDir(config), names: [config.hostname, 'localhost'], now: Date.now });
  publish(zone, cooperativeRecords(cast, poolDkimRecord(cast.domain, keys.pool)));
  return new Cooperative({ cast, configFile, logFile: join(home, 'node.log'), onEnd });
}

/** PLC directory and PDS. */
async function startNetwork(folder: string, ports: Ports, parts: AsyncDisposableStack): Promise<PDS> {
  const plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port: ports.plc });
  parts.defer(() => plc.stop());
  // Loaded late: it takes more than a second, in which the cooperatives' keys are made beside it.
  const { startPds } = await import('./pds.ts');
  const pds = await startPds({ folder: join(folder, 'pds'), port: ports.pds, plcUrl: plc.url });
  parts.defer(() => pds.destroy());
  return pds;
}

/** Accounts, enrolments and the members' DNS records. */
async function admitMembers(
  memberships: Memberships,
  pds: PDS,
  nodes: Record<CooperativeKey, Cooperative>,
  zone: Zone,
): Promise<Membership[]> {
  const configFileOf = (home: CooperativeKey) => nodes[home].configFile;
  const people = await memberships.ensure(pds.ctx.cfg.service.publicUrl, configFileOf);
  for (const { domains, home } of people) {
    for (const domain of domains) publish(zone, setsOf(await dnsRecords(configFileOf(home), domain)));
  }
  return people;
}

type Telling = { options: SandboxOptions; world: World; people: Membership[]; inbox: Inbox; zone: Zone };

/** The first member's first domain has the story; all the others join without words. */
async function tellStory({ options, world, people, inbox, zone }: Telling): Promise<void> {
  const stories = people.map((member): Story => {
    const home = world.cooperatives.find(({ name }) => name === member.home)!;
    const neighbour = world.cooperatives.find(({ name }) => name !== member.home)!;
    return {
      pds: world.pds,
      member,
      home,
      neighbour,
      inbox,
      selectorsOf: (domain) => selectorsIn(zone, domain),
      signal: options.signal,
    };
  });
  const others = stories.flatMap((story, i) =>
    story.member.domains.slice(i === 0 ? 1 : 0).map((domain) => settle(story, domain)),
  );
  await together(tell(stories[0]!, options.onStep ?? (() => undefined)), Promise.all(others));
}
