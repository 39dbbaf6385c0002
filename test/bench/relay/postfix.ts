/**
 * Debian's Postfix with dovecot's SASL and opendkim, set up as well as we can.
 *
 * Connections to the destination are reused, process limits are not in the way, nothing is logged, and
 * what is looked up stands in memory: whatever costs time here is needed for the work.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { run, startForeign, stop, untilListening } from './children.ts';
import { login, recipientDomain, type Surroundings, type System } from './system.ts';

const master = '/usr/lib/postfix/sbin/master';

function missing(...files: string[]): string | false {
  if (process.getuid?.() !== 0) return 'Postfix starts as root only';
  const absent = files.filter((file) => !existsSync(file));
  return absent.length > 0 && `${absent.join(', ')} not installed`;
}

/** With AUTH, STARTTLS both ways and two rsa-sha256 signatures. */
export const postfix: System = {
  key: 'postfix',
  name: 'Postfix + dovecot SASL + opendkim',
  missing: () => missing(master, '/usr/sbin/dovecot', '/usr/sbin/opendkim'),
  async start(around) {
    const milter = await startOpendkim(around);
    const sasl = await startDovecot(around.dir);
    const { keyFile, certFile } = around.tls;
    const settings = {
      smtpd_tls_security_level: 'encrypt',
      smtpd_tls_key_file: keyFile,
      smtpd_tls_cert_file: certFile,
      smtpd_tls_auth_only: 'yes',
      smtpd_sasl_auth_enable: 'yes',
      smtpd_sasl_type: 'dovecot',
      smtpd_sasl_path: sasl.socket,
      smtpd_relay_restrictions: 'permit_sasl_authenticated, reject',
      smtp_tls_security_level: 'encrypt',
      smtp_tls_connection_reuse: 'yes',
      smtp_tls_session_cache_database: `btree:$data_directory/smtp_scache`,
      smtpd_milters: `unix:${milter.socket}`,
      milter_default_action: 'tempfail',
    };
    const mta = await startPostfix(around, settings);
    return {
      ...{ port: mta.port, auth: login, recipientDomain, pids: [mta.pid, sasl.pid, milter.pid] },
      records: around.dkim.map(({ text }) => text),
      stop: async () => {
        await mta.stop();
        await Promise.all([sasl.stop(), milter.stop()]);
      },
    };
  },
};

/** Without AUTH, TLS and signatures. */
export const barePostfix: System = {
  key: 'postfix',
  name: 'Postfix',
  missing: () => missing(master),
  async start(around) {
    const mta = await startPostfix(around, {
      smtpd_relay_restrictions: 'permit_mynetworks, reject',
      smtp_tls_security_level: 'none',
    });
    return { port: mta.port, recipientDomain, pids: [mta.pid], stop: mta.stop };
  },
};

async function startPostfix({ dir, sinkPort }: Surroundings, more: Record<string, string>) {
  const folder = (name: string) => join(dir, name);
  const port = await freePort();
  for (const name of ['etc', 'queue', 'data']) mkdirSync(folder(name), { mode: 0o755 });
  await run('chown', 'postfix:root', folder('data'));
  const settings = {
    compatibility_level: '3.6',
    queue_directory: folder('queue'),
    data_directory: folder('data'),
    mail_owner: 'postfix',
    setgid_group: 'postdrop',
    daemon_directory: '/usr/lib/postfix/sbin',
    command_directory: '/usr/sbin',
    multi_instance_enable: 'no',
    syslog_name: 'atmos-bench',
    myhostname: 'postfix.pool.test',
    mydestination: '',
    mynetworks: '127.0.0.0/8',
    inet_interfaces: '127.0.0.1',
    inet_protocols: 'ipv4',
    relayhost: `[127.0.0.1]:${sinkPort}`,
    alias_maps: '',
    local_recipient_maps: '',
    local_transport: 'error:no local delivery',
    biff: 'no',
    default_process_limit: '200',
    smtpd_client_connection_count_limit: '0',
    smtpd_client_connection_rate_limit: '0',
    smtpd_peername_lookup: 'no',
    smtp_dns_support_level: 'disabled',
    smtp_connection_cache_on_demand: 'yes',
    smtp_destination_concurrency_limit: '20',
    initial_destination_concurrency: '20',
    qmgr_message_active_limit: '40000',
    in_flow_delay: '0s',
    message_size_limit: '50000000',
    ...more,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  writeFileSync(folder('etc/main.cf'), lines.join(''));
  writeFileSync(folder('etc/master.cf'), services(port));
  await run('postfix', '-c', folder('etc'), 'check');
  const logFile = folder('postfix.log');
  const child = startForeign({ command: [master, '-s', '-c', folder('etc')], logFile });
  await untilListening(port, logFile);
  return { port, pid: child.pid!, stop: () => stop(child) };
}

/** Nothing in a chroot: that would only cost the setting up. */
function services(port: number): string {
  const service = (name: string, type: string, program: string, isPrivate = 'y', limit = '-', wakeup = '-') =>
    `${name} ${type} ${isPrivate} - n ${wakeup} ${limit} ${program}\n`;
  return [
    service(`127.0.0.1:${port}`, 'inet', 'smtpd', 'n'),
    service('cleanup', 'unix', 'cleanup', 'n', '0'),
    service('qmgr', 'unix', 'qmgr', 'n', '1', '300'),
    service('tlsmgr', 'unix', 'tlsmgr', '-', '1', '1000?'),
    service('rewrite', 'unix', 'trivial-rewrite'),
    service('bounce', 'unix', 'bounce', '-', '0'),
    service('defer', 'unix', 'bounce', '-', '0'),
    service('trace', 'unix', 'bounce', '-', '0'),
    service('verify', 'unix', 'verify', '-', '1'),
    service('flush', 'unix', 'flush', 'n', '0', '1000?'),
    service('proxymap', 'unix', 'proxymap'),
    service('proxywrite', 'unix', 'proxymap', '-', '1'),
    service('smtp', 'unix', 'smtp'),
    service('relay', 'unix', 'smtp'),
    service('error', 'unix', 'error'),
    service('retry', 'unix', 'error'),
    service('discard', 'unix', 'discard'),
    service('anvil', 'unix', 'anvil', '-', '1'),
    service('scache', 'unix', 'scache', '-', '1'),
    service('tlsproxy', 'unix', 'tlsproxy', '-', '0'),
  ].join('');
}

/** @see https://doc.dovecot.org/ "Postfix and Dovecot SASL" */
async function startDovecot(dir: string) {
  const home = join(dir, 'dovecot');
  mkdirSync(home);
  const socket = join(home, 'auth-client');
  writeFileSync(join(home, 'users'), `${login.user}:{PLAIN}${login.pass}\n`);
  const logFile = join(home, 'log');
  const text = `
base_dir = ${home}/run
state_dir = ${home}/state
log_path = ${logFile}
protocols =
ssl = no
auth_mechanisms = plain
auth_cache_size = 1M
passdb {
  driver = passwd-file
  args = ${home}/users
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}
service auth {
  unix_listener ${socket} {
    mode = 0666
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
`;
  writeFileSync(join(home, 'dovecot.conf'), text);
  const child = startForeign({
    command: ['/usr/sbin/dovecot', '-F', '-c', join(home, 'dovecot.conf')],
    logFile,
  });
  await untilThere(socket, logFile);
  return { socket, pid: child.pid!, stop: () => stop(child) };
}

async function startOpendkim({ dir, dkim }: Surroundings) {
  const home = join(dir, 'opendkim');
  mkdirSync(home);
  const socket = join(home, 'milter');
  const keys = dkim.map((key, i) => `key${i} ${key.domain}:${key.selector}:${key.keyFile}\n`);
  writeFileSync(join(home, 'keys'), keys.join(''));
  writeFileSync(join(home, 'signing'), dkim.map((_, i) => `*@${dkim[0]!.domain} key${i}\n`).join(''));
  const text = `
Mode s
Socket local:${socket}
KeyTable file:${home}/keys
SigningTable refile:${home}/signing
MultipleSignatures yes
SignatureAlgorithm rsa-sha256
Canonicalization relaxed/relaxed
OversignHeaders From
RequireSafeKeys no
Syslog no
UMask 000
Background no
`;
  writeFileSync(join(home, 'opendkim.conf'), text);
  const logFile = join(home, 'log');
  const child = startForeign({
    command: ['/usr/sbin/opendkim', '-f', '-x', join(home, 'opendkim.conf')],
    logFile,
  });
  await untilThere(socket, logFile);
  return { socket, pid: child.pid!, stop: () => stop(child) };
}

async function untilThere(socket: string, logFile: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!existsSync(socket)) {
    if (Date.now() > deadline) throw new Error(`${socket} did not appear; see ${logFile}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
