/**
 * A relay as an operator runs it: `atmos start` in a process of its own, members enrolled by the command
 * line, a DNS of its own on loopback. For tests and benchmarks that look at it from outside.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './free-port.ts';
import { DnsWorld } from './sandbox/dns-world.ts';

export type RelayNodeOptions = {
  /** A folder of its own; state, configuration and log come to lie in it. */
  dir: string;
  /** Where every destination listens. */
  deliveryPort: number;
  poolDomain?: string;
  /** More of the configuration; replaces whole top-level keys. */
  config?: Record<string, unknown>;
  /** More ports, such as that of the metrics. */
  listenMore?: Record<string, string>;
  /** In front of node, such as `strace -f …`. */
  wrapper?: string[];
  nodeFlags?: string[];
  members: { did: string; domains: string[]; category?: string }[];
};

export type Member = { did: string; apiKey: string };
export type DnsText = { type: string; name: string; value: string };

const atmos = join(import.meta.dirname, '../node/atmos.js');
const runFile = promisify(execFile);
const plenty = 1_000_000_000;
/** Longer than the node's own 12 s. */
const stopMs = 15_000;

export class RelayNode {
  readonly dir: string;
  readonly configFile: string;
  readonly dns: DnsWorld;
  readonly members: Member[];
  /** All that verifiers of its signatures look up. */
  readonly records: DnsText[];
  readonly submission: { host: string; port: number };
  readonly submissions: { host: string; port: number };
  /** Without a path. */
  readonly url: string;
  #child: ChildProcess | undefined;
  readonly #options: RelayNodeOptions;

  private constructor(o: RelayNodeOptions, dns: DnsWorld, ports: Ports, made: Enrolled) {
    this.#options = o;
    this.dir = o.dir;
    this.configFile = configFileOf(o.dir);
    this.dns = dns;
    this.members = made.members;
    this.records = made.records;
    this.submission = { host: '127.0.0.1', port: ports.submission };
    this.submissions = { host: '127.0.0.1', port: ports.submissions };
    this.url = `http://127.0.0.1:${ports.web}`;
  }

  /** Resolves when it is ready. @throws with the end of its log when it does not start */
  static async start(o: RelayNodeOptions): Promise<RelayNode> {
    const dns = await DnsWorld.start({ port: 0 });
    const ports: Ports = {
      ...{ web: await freePort(), submission: await freePort(), submissions: await freePort() },
    };
    writeFileSync(configFileOf(o.dir), JSON.stringify(configurationOf(o, dns.port, ports)));
    const node = new RelayNode(o, dns, ports, await enrolAll(configFileOf(o.dir), o.members));
    for (const { name, value } of node.records) dns.set(name, 'TXT', [value]);
    try {
      await node.launch();
    } catch (error) {
      await dns.stop();
      throw error;
    }
    return node;
  }

  /** Of the node; of what wraps it where something does. */
  get pid(): number {
    return this.#child!.pid!;
  }

  get logFile(): string {
    return join(this.dir, 'log');
  }

  get stateDir(): string {
    return join(this.dir, 'state');
  }

  /** Mail for this domain goes to 127.0.0.1. */
  receives(domain: string): void {
    this.dns.set(domain, 'MX', [`10 mx.${domain}`]);
    this.dns.set(`mx.${domain}`, 'A', ['127.0.0.1']);
  }

  /** `atmos … --json`. */
  async cli<T>(...args: string[]): Promise<T> {
    return cli<T>(this.configFile, ...args);
  }

  /** Starts the process, the first time or again. */
  async launch(): Promise<void> {
    const { wrapper = [], nodeFlags = [] } = this.#options;
    const [command, ...args] = [...wrapper, atmos, 'start'];
    const log = openSync(this.logFile, 'a', 0o600);
    const child = spawn(command!, [...args, '--config', this.configFile], {
      stdio: ['ignore', log, log, 'ipc'],
      detached: true,
      env: {
        ...process.env,
        // Its first line asks for `node`.
        PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
        ...(nodeFlags.length > 0 && { NODE_OPTIONS: nodeFlags.join(' ') }),
      },
    });
    closeSync(log);
    this.#child = child;
    // The first message is `ready`.
    const ready = await Promise.race([once(child, 'message'), once(child, 'exit').then(() => undefined)]);
    if (!ready)
      throw new Error(`the node did not start:\n${readFileSync(this.logFile, 'utf8').slice(-3000)}`);
  }

  async stop(): Promise<void> {
    await this.kill('SIGTERM');
    await this.dns.stop();
  }

  /** Resolves when the process is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), stopMs);
    await gone;
    clearTimeout(timer);
  }
}

type Ports = { web: number; submission: number; submissions: number };
type Enrolled = { members: Member[]; records: DnsText[] };

function configFileOf(dir: string): string {
  return join(dir, 'atmos.jsonc');
}

function configurationOf(o: RelayNodeOptions, dnsPort: number, ports: Ports): Record<string, unknown> {
  const { web, submission, submissions } = ports;
  return {
    name: 'Harbor',
    domain: o.poolDomain ?? 'pool.test',
    publicUrl: `http://127.0.0.1:${web}`,
    did: 'did:web:localhost',
    stateDir: './state',
    roles: ['relay'],
    listen: {
      ...{ web: `127.0.0.1:${web}`, submission: `127.0.0.1:${submission}` },
      submissions: `127.0.0.1:${submissions}`,
      // Roles that it does not have; on loopback all the same.
      ...{ inbound: '127.0.0.1:2525', dns: '127.0.0.1:5300' },
      ...o.listenMore,
    },
    network: {
      ...{ loopbackOnly: true, plcUrl: 'http://localhost:1', resolvers: [`127.0.0.1:${dnsPort}`] },
    },
    firehose: [],
    delivery: { port: o.deliveryPort },
    caps: { warmingDays: 0, tiers: { standard: { perHour: plenty, perDay: plenty } } },
    ...o.config,
  };
}

async function enrolAll(configFile: string, members: RelayNodeOptions['members']): Promise<Enrolled> {
  const enrolled: Enrolled = { members: [], records: [] };
  for (const { did, domains, category } of members) {
    const more = [
      ...domains.flatMap((domain) => ['--domain', domain]),
      ...(category ? ['--category', category] : []),
    ];
    const made = await cli<{ apiKey: string; dns: DnsText[] }>(
      ...[configFile, 'member', 'enrol', '--did', did],
      ...more,
    );
    enrolled.members.push({ did, apiKey: made.apiKey });
    enrolled.records.push(...made.dns.filter(({ type }) => type === 'TXT'));
  }
  const { dkim } = await cli<{ dkim: DnsText[] }>(configFile, 'keys');
  enrolled.records.push(...dkim);
  return enrolled;
}

async function cli<T>(configFile: string, ...args: string[]): Promise<T> {
  const options = ['--config', configFile, '--json'];
  const { stdout } = await runFile(process.execPath, [atmos, ...args, ...options]);
  return (stdout.trim() ? JSON.parse(stdout) : undefined) as T;
}
