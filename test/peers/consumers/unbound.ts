/**
 * Debian's unbound as the resolver of a mail server: asks our server for the zone, and knows by itself the
 * few other names of a test's world. Nothing else exists, and nothing is asked of the network.
 */

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../free-port.ts';
import { newFolder, startProgram } from './program.ts';

const run = promisify(execFile);

export type Resolver = {
  /** Where port 53 answers too, for what cannot be told another port; absent without root. */
  host53: string | undefined;
  port: number;
  /** Forgets what it has learned below this name. */
  forget(name: string): Promise<void>;
  stop(): Promise<void>;
};

/**
 * @param records lines of a zone file with full names: `reef.test. TXT "v=spf1 -all"`
 * @param settings more lines of the section `server:`
 */
export async function startUnbound(o: {
  zone: string;
  server: { host: string; port: number };
  records?: readonly string[];
  settings?: readonly string[];
}): Promise<Resolver> {
  const { dir, remove } = newFolder('unbound');
  const port = await freePort();
  const host53 = process.getuid?.() === 0 ? loopbackAddress() : undefined;
  const text = `
server:
  interface: 127.0.0.1@${port}
  ${host53 ? `interface: ${host53}@53` : ''}
  username: ""
  chroot: ""
  directory: "${dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  num-threads: 1
  module-config: "iterator"
  qname-minimisation: yes
  aggressive-nsec: no
  do-not-query-localhost: no
  local-zone: "." static
  local-zone: "${o.zone}." transparent
${(o.records ?? []).map((record) => `  local-data: '${record}'\n`).join('')}
${(o.settings ?? []).map((line) => `  ${line}\n`).join('')}
remote-control:
  control-enable: yes
  control-use-cert: no
  control-interface: ${dir}/control
stub-zone:
  name: "${o.zone}"
  stub-addr: ${o.server.host}@${o.server.port}
`;
  const file = join(dir, 'unbound.conf');
  writeFileSync(file, text);
  const control = async (...args: string[]) => {
    await run('/usr/sbin/unbound-control', ['-c', file, ...args]);
  };
  const isUp = () =>
    control('status').then(
      () => true,
      () => false,
    );
  const program = await startProgram({
    dir,
    command: ['/usr/sbin/unbound', '-d', '-c', file],
    ready: isUp,
  });
  return {
    host53,
    port,
    forget: (name) => control('flush_zone', name),
    stop: async () => {
      await program.stop();
      remove();
    },
  };
}

/** One of 16 million, so that runs beside each other do not meet. */
function loopbackAddress(): string {
  const octet = () => 1 + Math.floor(Math.random() * 254);
  return `127.${octet()}.${octet()}.${octet()}`;
}
