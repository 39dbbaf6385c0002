/** Debian's Postfix as the receiver of `dest.test`, in a folder of its own. Takes no message, only RCPT. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { newFolder, startProgram, withResolver } from './program.ts';

export type Postfix = { port: number; log(): string; stop(): Promise<void> };

/** @param settings lines of main.cf that come after the machine's own */
export async function startPostfix(o: {
  resolver: string;
  settings: string;
  behindPostscreen?: boolean;
}): Promise<Postfix> {
  const { dir, remove } = newFolder('postfix');
  const port = await freePort();
  for (const name of ['etc', 'queue', 'data']) mkdirSync(join(dir, name));
  execFileSync('chown', ['postfix:root', join(dir, 'data')]);
  writeFileSync(join(dir, 'etc/main.cf'), `${ownSettings(dir)}\n${o.settings}`);
  writeFileSync(join(dir, 'etc/master.cf'), services(port, o.behindPostscreen ?? false));
  execFileSync('postfix', ['-c', join(dir, 'etc'), 'check'], { stdio: 'pipe' });
  const master = ['/usr/lib/postfix/sbin/master', '-s', '-c', join(dir, 'etc')];
  const logFile = join(dir, 'postfix.log');
  const log = () => readFileSync(logFile, 'utf8');
  const program = await startProgram({
    dir,
    command: withResolver(dir, o.resolver, master),
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

function ownSettings(dir: string): string {
  return `
compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
queue_directory = ${dir}/queue
data_directory = ${dir}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
maillog_file = ${dir}/postfix.log
maillog_file_prefixes = ${dir}
myhostname = mx.dest.test
mydestination = dest.test
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = all
alias_maps =
local_recipient_maps =
in_flow_delay = 0s
smtpd_upstream_proxy_protocol = haproxy
postscreen_upstream_proxy_protocol = haproxy
`;
}

function services(port: number, behindPostscreen: boolean): string {
  const door = behindPostscreen
    ? [
        `127.0.0.1:${port} inet n - n - 1 postscreen`,
        // What postscreen hands on has had its PROXY line already.
        'smtpd pass - - n - - smtpd -o smtpd_upstream_proxy_protocol=',
        'dnsblog unix - - n - 0 dnsblog',
      ]
    : [`127.0.0.1:${port} inet n - n - - smtpd`];
  const others = [
    'cleanup unix n - n - 0 cleanup',
    'rewrite unix - - n - - trivial-rewrite',
    'proxymap unix - - n - - proxymap',
    'anvil unix - - n - 1 anvil',
    'tlsmgr unix - - n - 1 tlsmgr',
    'postlog unix-dgram n - n - 1 postlogd',
  ];
  return `${[...door, ...others].join('\n')}\n`;
}
