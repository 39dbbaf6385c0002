/**
 * A DNS of its own, from the root down: NSD serves the zones, Unbound resolves, as on a node's machine.
 *
 * Everything is on loopback addresses of 127.83.0.0/16, at port 53, since a delegation names no port.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DnsResolver } from '../../node/resolver.ts';
import { boundToUs } from '../foreign.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { until } from '../until.ts';

export type DnsTree = {
  /** Asks Unbound. */
  resolver: DnsResolver;
  /** Of the name server that strangers' zones are delegated to. */
  host: string;
  stop(): Promise<void>;
};

const asRoot = process.getuid?.() === 0 ? false : 'port 53 is for root only';

/** Why it cannot run here. */
export const skipDnsTree = needs('nsd', 'unbound') || asRoot;

const head = (ns: string) => `$TTL 0\n@ IN SOA ${ns} dns.test. 1 900 300 604800 0\n@ IN NS ${ns}\n`;

/**
 * @param zones master file text by zone, without SOA and NS; served by one server
 * @param delegations further NS lines of the root zone, with their addresses; `@host@` is that server
 */
export async function startDnsTree(zones: Record<string, string>, delegations = ''): Promise<DnsTree> {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-dns-tree-'));
  const net = `127.83.${process.pid % 250}`;
  const [root, host] = [`${net}.1`, `${net}.2`];
  const delegated = Object.keys(zones).filter(
    (zone) => !Object.keys(zones).some((up) => zone.endsWith(`.${up}`)),
  );
  const rootZone = [
    `ns.root. IN A ${root}`,
    ...delegated.map((zone) => `${zone}. IN NS ns.zones.\n`),
    `ns.zones. IN A ${host}`,
    delegations.replaceAll('@host@', host),
  ].join('\n');
  const served = Object.entries(zones).map(([zone, text]): [string, string] => [
    zone,
    `${head('ns.zones.')}${text}\n`,
  ]);
  const running = [
    startNsd(join(folder, 'root'), root, [['.', `${head('ns.root.')}${rootZone}\n`]]),
    startNsd(join(folder, 'zones'), host, served),
  ];
  const port = await freePort();
  running.push(startUnbound(join(folder, 'unbound'), port, root));
  const stop = async () => {
    await Promise.all(running.map(ended));
    rmSync(folder, { recursive: true, force: true });
  };
  const resolver = new DnsResolver({ servers: [{ host: '127.0.0.1', port }], timeoutMs: 1_500, attempts: 1 });
  try {
    await until('the DNS tree answers', async () => (await resolver.txt(delegated[0]!)).kind !== 'failed');
  } catch (error) {
    const logs = ['root', 'zones', 'unbound'].map((name) => readFileSync(join(folder, name, 'log'), 'utf8'));
    await stop();
    throw new Error(logs.join('\n'), { cause: error });
  }
  return { resolver, host, stop };
}

function startNsd(folder: string, address: string, zones: [name: string, text: string][]): ChildProcess {
  mkdirSync(folder);
  for (const [index, [, text]] of zones.entries()) writeFileSync(join(folder, `${index}.zone`), text);
  const config = join(folder, 'nsd.conf');
  writeFileSync(
    config,
    `server:
  ip-address: ${address}
  username: ""
  chroot: ""
  zonesdir: "${folder}"
  database: ""
  zonelistfile: "${folder}/zone.list"
  xfrdfile: "${folder}/xfrd.state"
  xfrdir: "${folder}"
  pidfile: "${folder}/nsd.pid"
remote-control:
  control-enable: no
${zones.map(([name], index) => `zone:\n  name: "${name}"\n  zonefile: "${index}.zone"\n`).join('')}`,
  );
  return run(folder, ['/usr/sbin/nsd', '-d', '-c', config]);
}

function startUnbound(folder: string, port: number, root: string): ChildProcess {
  mkdirSync(folder);
  writeFileSync(join(folder, 'hints'), `. 3600 IN NS ns.root.\nns.root. 3600 IN A ${root}\n`);
  const config = join(folder, 'unbound.conf');
  writeFileSync(
    config,
    `server:
  interface: 127.0.0.1
  port: ${port}
  do-ip6: no
  do-daemonize: no
  do-not-query-localhost: no
  username: ""
  chroot: ""
  directory: "${folder}"
  pidfile: "${folder}/unbound.pid"
  use-syslog: no
  module-config: "iterator"
  root-hints: "${folder}/hints"
  local-zone: "test." nodefault
remote-control:
  control-enable: no
`,
  );
  return run(folder, ['/usr/sbin/unbound', '-d', '-c', config]);
}

function run(folder: string, command: string[]): ChildProcess {
  const log = openSync(join(folder, 'log'), 'a');
  const [file, ...args] = boundToUs(command);
  return spawn(file, args, { stdio: ['ignore', log, log] });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, 'exit');
}
