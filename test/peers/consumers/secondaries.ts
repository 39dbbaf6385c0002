/**
 * Secondaries of other makers: Debian's NSD, Knot and BIND, each with one zone of a primary on loopback; told
 * of changes, and asking for them, with one key.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from '../../until.ts';
import { newFolder, startProgram } from './program.ts';

const run = promisify(execFile);

export type Secondary = {
  name: string;
  port: number;
  log(): string;
  /** Whether it took a difference, by its own log. */
  sawDifference(): boolean;
  /** @throws with its log when it does not have this serial in time */
  reaches(serial: number): Promise<void>;
  stop(): Promise<void>;
};

type Options = {
  apex: string;
  primaryPort: number;
  key: { name: string; secret: Buffer };
  /** Its own; it must be free now, for the primary has to know it. */
  port: number;
};

export type Maker = (o: Options) => Promise<Secondary>;

/** By TCP, which is its default, or asking for differences by UDP (`request-xfr: UDP`). */
export const nsd =
  (by: 'TCP' | 'UDP'): Maker =>
  (o) =>
    started(by === 'TCP' ? 'NSD' : 'NSD by UDP', o, {
      file: 'nsd.conf',
      text: (dir) => `
server:
  ip-address: 127.0.0.1@${o.port}
  username: ""
  zonesdir: "${dir}"
  database: ""
  pidfile: "${dir}/nsd.pid"
  xfrdfile: "${dir}/xfrd.state"
  xfrdir: "${dir}"
  zonelistfile: "${dir}/zone.list"
  server-count: 1
  verbosity: 3
  xfrd-reload-timeout: 0
remote-control:
  control-enable: no
key:
  name: "${o.key.name}"
  algorithm: hmac-sha256
  secret: "${o.key.secret.toString('base64')}"
zone:
  name: "${o.apex}"
  zonefile: "zone"
  request-xfr: ${by === 'UDP' ? 'UDP ' : ''}127.0.0.1@${o.primaryPort} ${o.key.name}
  allow-notify: 127.0.0.1 ${o.key.name}
`,
      command: (config) => ['/usr/sbin/nsd', '-d', '-c', config],
      difference: / of \d{1,4} bytes in /,
    });

export const knot: Maker = (o) =>
  started('Knot', o, {
    file: 'knot.conf',
    text: (dir) => `
server:
  rundir: "${dir}"
  listen: 127.0.0.1@${o.port}
log:
  - target: stdout
    any: debug
database:
  storage: "${dir}"
key:
  - id: ${o.key.name}
    algorithm: hmac-sha256
    secret: ${o.key.secret.toString('base64')}
remote:
  - id: primary
    address: 127.0.0.1@${o.primaryPort}
    key: ${o.key.name}
acl:
  - id: primary
    address: 127.0.0.1
    key: ${o.key.name}
    action: [notify, transfer]
zone:
  - domain: ${o.apex}
    storage: "${dir}"
    master: primary
    acl: primary
`,
    command: (config) => ['/usr/sbin/knotd', '-c', config],
    difference: /IXFR, incoming.*finished/,
  });

/** Compares serials by UDP, signed, before each transfer; takes no unsigned answer. */
export const bind: Maker = (o) =>
  started('BIND', o, {
    file: 'named.conf',
    text: (dir) => `
options {
  directory "${dir}";
  pid-file "${dir}/pid";
  session-keyfile "${dir}/session";
  managed-keys-directory "${dir}";
  listen-on port ${o.port} { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  dnssec-validation no;
  minimal-responses yes;
  // One serial after the other, and not one a second.
  serial-query-rate 1000;
  min-refresh-time 1;
  try-tcp-refresh no;
};
controls { };
key "${o.key.name}" { algorithm hmac-sha256; secret "${o.key.secret.toString('base64')}"; };
zone "${o.apex}" {
  type secondary;
  file "zone";
  masterfile-format text;
  primaries { 127.0.0.1 port ${o.primaryPort} key ${o.key.name}; };
  allow-notify { key ${o.key.name}; };
  allow-transfer { key ${o.key.name}; };
};
`,
    command: (config) => ['/usr/sbin/named', '-g', '-d', '3', '-n', '1', '-c', config],
    difference: /got incremental response/,
  });

/** Its folder is removed with it. */
async function started(
  name: string,
  { apex, port }: Options,
  o: {
    file: string;
    text: (dir: string) => string;
    command: (config: string) => string[];
    difference: RegExp;
  },
): Promise<Secondary> {
  const { dir, remove } = newFolder(name.toLowerCase().replaceAll(' ', '-'));
  const config = join(dir, o.file);
  writeFileSync(config, o.text(dir));
  const serial = async (): Promise<string> => {
    const args = ['@127.0.0.1', '-p', `${port}`, '+short', '+tries=1', '+time=1', apex, 'SOA'];
    return (await run('dig', args)).stdout.split(' ')[2] ?? '';
  };
  const isThere = () =>
    serial().then(
      () => true,
      () => false,
    );
  const program = await startProgram({ dir, command: o.command(config), ready: isThere });
  return {
    ...{ name, port, log: program.log },
    sawDifference: () => o.difference.test(program.log()),
    reaches: async (wanted) => {
      const isReached = async () => (await serial()) === String(wanted);
      await until(`${name} reaches ${wanted}`, isReached).catch((error) => {
        throw new Error(program.log().slice(-20_000), { cause: error });
      });
    },
    stop: async () => {
      await program.stop();
      remove();
    },
  };
}
