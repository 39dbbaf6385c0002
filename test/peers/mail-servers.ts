/**
 * Postfix, Exim and OpenSMTPD as destinations: each takes mail for `dest.test` and stores it.
 *
 * `nobody@dest.test` does not exist. Where `canDefer`, `later@dest.test` is refused for now. Each runs from
 * a folder of its own, on 127.0.0.1; nothing of the machine's own mail is touched.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boundToUs } from '../foreign.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { until } from '../until.ts';
import { unpacked } from './unpacked.ts';

export type Destination = {
  port: number;
  /** Whole messages as stored, in no order. */
  stored(): Buffer[];
  log(): string;
  stop(): Promise<void>;
};

export type Surroundings = { tls: { key: string; cert: string } };

export type MailServer = {
  name: string;
  canDefer: boolean;
  /** What its own Received field calls a session with TLS; absent where it offers none. */
  overTls?: RegExp;
  /** Why it cannot run here. */
  skip: string | false;
  start(o: Surroundings): Promise<Destination>;
};

const asRoot = process.getuid?.() === 0 ? false : 'mail servers start as root only';
const exim = unpackedOrSkip('exim4-daemon-light', 'usr/sbin/exim4');
const opensmtpd = unpackedOrSkip('opensmtpd', 'usr/sbin/smtpd');

function unpackedOrSkip(name: string, program: string): { folder: string; skip: string | false } {
  if (asRoot) return { folder: '', skip: asRoot };
  const found = unpacked(name, program);
  return 'folder' in found ? { ...found, skip: false } : { folder: '', skip: found.missing };
}

export const mailServers: MailServer[] = [
  {
    name: 'Postfix',
    canDefer: true,
    overTls: /using TLSv1\.[23].*with ESMTPS/s,
    skip: needs('postfix') || asRoot,
    start: (o) => startPostfix(o),
  },
  {
    name: 'Exim',
    canDefer: true,
    overTls: /with esmtps\s+\(TLS1\.[23]\)/,
    skip: exim.skip || withoutNamespaces(),
    start: startExim,
  },
  {
    name: 'OpenSMTPD',
    canDefer: false,
    skip: opensmtpd.skip || withoutNamespaces(),
    start: startOpensmtpd,
  },
];

type Place = { dir: string; port: number; keyFile: string; certFile: string };

async function makePlace({ tls }: Surroundings): Promise<Place> {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-destination-'));
  // They run as other users.
  chmodSync(dir, 0o755);
  const place = {
    dir,
    port: await freePort(),
    keyFile: join(dir, 'key.pem'),
    certFile: join(dir, 'cert.pem'),
  };
  writeFileSync(place.keyFile, tls.key);
  writeFileSync(place.certFile, tls.cert);
  mkdirSync(join(dir, 'mail'));
  execFileSync('chown', ['nobody', join(dir, 'mail')]);
  return place;
}

/** In the foreground; gone with us, however we end. */
async function startIn(place: Place, command: string[]): Promise<Destination> {
  const logFile = join(place.dir, 'output');
  const log = openSync(logFile, 'a');
  const [file, ...args] = boundToUs(command);
  const child = spawn(file, args, {
    stdio: ['ignore', log, log],
    detached: true,
    cwd: place.dir,
  });
  const logs = () => globSync(['output', 'log/*', '*.log'], { cwd: place.dir });
  const read = () =>
    logs()
      .map((name) => readFileSync(join(place.dir, name), 'utf8'))
      .join('\n');
  try {
    await until(`${command[0]} listens`, () => child.exitCode !== null || listens(place.port));
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
  } catch (error) {
    await end(child);
    throw new Error(`${command.join(' ')} did not start:\n${read()}`, { cause: error });
  }
  return {
    port: place.port,
    log: read,
    stored: () =>
      globSync('mail/**/new/*', { cwd: place.dir }).map((name) => readFileSync(join(place.dir, name))),
    stop: async () => {
      await end(child);
      rmSync(place.dir, { recursive: true, force: true });
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

async function listens(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  const isThere = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return isThere;
}

/** @param more settings, such as those of a milter */
export async function startPostfix(o: Surroundings, more: Record<string, string> = {}): Promise<Destination> {
  const place = await makePlace(o);
  const { dir, port } = place;
  for (const name of ['etc', 'queue', 'data']) mkdirSync(join(dir, name));
  execFileSync('chown', ['postfix:root', join(dir, 'data')]);
  const nobody = (flag: string) => execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }).trim();
  const settings = {
    ...{ compatibility_level: '3.6', mail_owner: 'postfix', setgid_group: 'postdrop' },
    ...{ queue_directory: join(dir, 'queue'), data_directory: join(dir, 'data') },
    ...{ daemon_directory: '/usr/lib/postfix/sbin', command_directory: '/usr/sbin' },
    ...{ maillog_file: join(dir, 'postfix.log'), maillog_file_prefixes: dir },
    ...{
      myhostname: 'mx.dest.test',
      mydestination: '',
      inet_interfaces: '127.0.0.1',
      inet_protocols: 'ipv4',
    },
    ...{ alias_maps: '', local_recipient_maps: '', smtpd_peername_lookup: 'no', smtputf8_enable: 'yes' },
    virtual_mailbox_domains: 'dest.test',
    virtual_mailbox_base: join(dir, 'mail'),
    virtual_mailbox_maps: 'inline:{ b@dest.test=b/, later@dest.test=later/ }',
    ...{ virtual_uid_maps: `static:${nobody('-u')}`, virtual_gid_maps: `static:${nobody('-g')}` },
    smtpd_recipient_restrictions:
      'check_recipient_access inline:{ { later@dest.test = 450 4.2.0 try later } }, reject_unauth_destination',
    ...{ smtpd_tls_security_level: 'may', smtpd_tls_received_header: 'yes' },
    ...{ smtpd_tls_key_file: place.keyFile, smtpd_tls_cert_file: place.certFile },
    ...more,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  writeFileSync(join(dir, 'etc/main.cf'), lines.join(''));
  writeFileSync(join(dir, 'etc/master.cf'), postfixServices(port));
  execFileSync('postfix', ['-c', join(dir, 'etc'), 'check'], { stdio: ['ignore', 'ignore', 'pipe'] });
  return startIn(place, ['/usr/lib/postfix/sbin/master', '-s', '-c', join(dir, 'etc')]);
}

function postfixServices(port: number): string {
  const service = (name: string, type: string, program = name, isPrivate = 'y', limit = '-') =>
    `${name} ${type} ${isPrivate} - n - ${limit} ${program}\n`;
  return [
    service(`127.0.0.1:${port}`, 'inet', 'smtpd', 'n'),
    ...['cleanup', 'flush'].map((name) => service(name, 'unix', name, 'n', '0')),
    ...['bounce', 'defer', 'trace'].map((name) => service(name, 'unix', 'bounce', '-', '0')),
    ...['tlsmgr', 'anvil', 'scache', 'verify'].map((name) => service(name, 'unix', name, '-', '1')),
    ...['error', 'proxymap'].map((name) => service(name, 'unix')),
    // Becomes the owner of a mailbox, so it keeps root's rights.
    'virtual unix - n n - - virtual\n',
    service('rewrite', 'unix', 'trivial-rewrite'),
    'qmgr unix n - n 300 1 qmgr\n',
    'postlog unix-dgram n - n - 1 postlogd\n',
  ].join('');
}

async function startExim(o: Surroundings): Promise<Destination> {
  const place = await makePlace(o);
  const { dir, port } = place;
  for (const name of ['spool', 'log']) mkdirSync(join(dir, name));
  execFileSync('chown', ['64003', ...['spool', 'log', 'mail'].map((name) => join(dir, name)), place.keyFile]);
  const text = `
exim_user = Debian-exim
exim_group = Debian-exim
exim_path = ${exim.folder}/usr/sbin/exim4
spool_directory = ${dir}/spool
log_file_path = ${dir}/log/%s
pid_file_path = ${dir}/spool/pid
primary_hostname = mx.dest.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = ${port}
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = ${place.certFile}
tls_privatekey = ${place.keyFile}
keep_environment =
chunking_advertise_hosts =
smtputf8_advertise_hosts = *
# Else what comes after ten on one connection waits for a queue run.
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = check_rcpt
dkim_verify_signers =
begin acl
check_rcpt:
  deny local_parts = nobody
       message = 550 5.1.1 no such user
  defer local_parts = later
       message = 450 4.2.0 try later
  accept domains = dest.test
  deny message = not here
begin routers
store:
  driver = accept
  domains = dest.test
  transport = store
begin transports
store:
  driver = appendfile
  maildir_format
  directory = ${dir}/mail/b
  create_directory
  user = Debian-exim
`;
  writeFileSync(join(dir, 'exim.conf'), text);
  const command = `exec ${exim.folder}/usr/sbin/exim4 -C ${dir}/exim.conf -bdf -q1m\n`;
  return startIn(place, withUsers(place, { 'Debian-exim': 64003 }, command));
}

/** Without TLS: with Debian's OpenSSL 3 it breaks off every handshake of its own (`EVP lib`). */
async function startOpensmtpd(o: Surroundings): Promise<Destination> {
  const place = await makePlace(o);
  const { dir, port } = place;
  const text = `
table users { "b@dest.test" = "nobody" }
listen on 127.0.0.1 port ${port} hostname mx.dest.test
action "store" maildir "${dir}/mail/b" virtual <users>
match from any for rcpt-to "b@dest.test" action "store"
`;
  writeFileSync(join(dir, 'smtpd.conf'), text);
  const program = join(opensmtpd.folder, 'usr/sbin/smtpd');
  const script = `
mount -t tmpfs tmpfs /var/spool
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /usr/libexec
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 711 /var/spool/smtpd
cp -r ${opensmtpd.folder}/usr/libexec/opensmtpd /usr/libexec/opensmtpd
exec ${program} -d -f ${dir}/smtpd.conf
`;
  return startIn(place, withUsers(place, { opensmtpd: 64001, opensmtpq: 64002 }, script));
}

/**
 * What was not installed has not its users, whose names are fixed at compile time. So it gets a view of the
 * file system of its own (a mount namespace) in which they are; outside, nothing changes.
 */
function withUsers({ dir }: Place, users: Record<string, number>, script: string): string[] {
  const all = Object.entries(users);
  const passwd = all.map(
    ([name, id]) => `${name}:x:${id}:${id}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n`,
  );
  const group = all.map(([name, id]) => `${name}:x:${id}:\n`);
  writeFileSync(join(dir, 'passwd'), readFileSync('/etc/passwd', 'utf8') + passwd.join(''));
  writeFileSync(join(dir, 'group'), readFileSync('/etc/group', 'utf8') + group.join(''));
  const binds = ['passwd', 'group'].map((name) => `mount --bind ${dir}/${name} /etc/${name}\n`);
  writeFileSync(join(dir, 'inside.sh'), `set -e\n${binds.join('')}${script}`);
  return ['unshare', '--mount', 'sh', join(dir, 'inside.sh')];
}

function withoutNamespaces(): string | false {
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'no mount namespace can be made here';
  }
}
