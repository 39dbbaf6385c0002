/**
 * Debian's Exim (the heavy one, which knows SPF) as the receiver of `dest.test`, unpacked and not installed.
 *
 * Takes messages and throws them away.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { unpacked } from '../unpacked.ts';
import { asRoot, newFolder, startProgram, withResolver } from './program.ts';
import { snippetPath } from './snippets.ts';

export type Exim = { port: number; log(): string; stop(): Promise<void> };

const found = asRoot ? { missing: asRoot } : unpacked('exim4-daemon-heavy', 'usr/sbin/exim4');

/** Why it cannot run here. */
export const eximMissing: string | false = 'missing' in found ? found.missing : false;

const userId = 64003;

/** Strangers are refused: without a listed address or SPF at RCPT, or by `strangersAt: 'data'` at the final dot. */
export async function startExim(o: { resolver: string; strangersAt: 'rcpt' | 'data' }): Promise<Exim> {
  if (!('folder' in found)) throw new Error(found.missing);
  const { dir, remove } = newFolder('exim');
  const port = await freePort();
  for (const name of ['spool', 'logs']) mkdirSync(join(dir, name));
  execFileSync('chown', [`${userId}`, join(dir, 'spool'), join(dir, 'logs')]);
  writeFileSync(
    join(dir, 'exim.conf'),
    configuration(dir, port, `${found.folder}/usr/sbin/exim4`, o.strangersAt),
  );
  const users = ['passwd', 'group'].map((name) => {
    const more =
      name === 'group' ? `Debian-exim:x:${userId}:\n` : `Debian-exim:x:${userId}:${userId}::/:/bin/false\n`;
    writeFileSync(join(dir, name), readFileSync(`/etc/${name}`, 'utf8') + more);
    // The name is fixed at compile time, and no package that was not installed made that user.
    return `mount --bind ${dir}/${name} /etc/${name}`;
  });
  const command = [`${found.folder}/usr/sbin/exim4`, '-C', join(dir, 'exim.conf'), '-bdf'];
  const log = () => readFileSync(join(dir, 'logs/main'), 'utf8');
  const program = await startProgram({
    dir,
    command: withResolver(dir, o.resolver, command, users),
    ready: () => log().includes('daemon started'),
  });
  return {
    ...{ port, log },
    stop: async () => {
      await program.stop();
      remove();
    },
  };
}

function configuration(dir: string, port: number, path: string, strangersAt: 'rcpt' | 'data'): string {
  const rcpt = `deny condition = \${if and{ {!def:acl_c_fed_ip} {!def:acl_m_fed_spf} }}\n  message = a stranger`;
  const data = `deny condition = \${if !def:acl_m_fed}\n  message = a stranger`;
  return `
exim_user = Debian-exim
exim_group = Debian-exim
exim_path = ${path}
spool_directory = ${dir}/spool
log_file_path = ${dir}/logs/%s
pid_file_path = ${dir}/spool/pid
primary_hostname = mx.dest.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = ${port}
hosts_proxy = 127.0.0.1
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
acl_smtp_rcpt = check_rcpt
acl_smtp_dkim = check_dkim
acl_smtp_data = check_data
begin acl
check_rcpt:
  deny !domains = dest.test
       message = relay not permitted
.include ${snippetPath('exim/rcpt.acl')}
  ${strangersAt === 'rcpt' ? rcpt : ''}
  accept
check_dkim:
.include ${snippetPath('exim/dkim.acl')}
  accept
check_data:
.include ${snippetPath('exim/data.acl')}
  ${strangersAt === 'data' ? data : ''}
  accept
begin routers
all:
  driver = redirect
  data = :blackhole:
`;
}
