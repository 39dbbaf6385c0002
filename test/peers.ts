/**
 * Foreign software that tests meet: real peers for the protocols we speak.
 *
 * A missing program skips its tests by name; with ATMOS_REQUIRE_PEERS=1 (set in CI) it fails them,
 * unless `unobtainable` gives the reason why a machine's package sources cannot bring it.
 */
import { spawnSync } from 'node:child_process';

type Peer = { probe: [command: string, ...args: string[]]; debian: string };

const peers = {
  dig: { probe: ['dig', '-v'], debian: 'dnsutils' },
  kdig: { probe: ['kdig', '--version'], debian: 'knot-dnsutils' },
  rbldnsd: { probe: ['rbldnsd', '-h'], debian: 'rbldnsd' },
  named: { probe: ['/usr/sbin/named', '-V'], debian: 'bind9' },
  'named-checkzone': { probe: ['named-checkzone', '-v'], debian: 'bind9-utils' },
  'nsd-checkzone': { probe: ['nsd-checkzone', '-h'], debian: 'nsd' },
  'ldns-read-zone': { probe: ['ldns-read-zone', '-h'], debian: 'ldnsutils' },
  swaks: { probe: ['swaks', '--version'], debian: 'swaks' },
  python3: { probe: ['/usr/bin/python3', '-c', 'import email'], debian: 'python3' },
  // Debian's own interpreter: another python3 in PATH does not see Debian's modules.
  'python3-dkim': {
    probe: ['/usr/bin/python3', '-c', 'import dkim, nacl'],
    debian: 'python3-dkim python3-nacl',
  },
  msmtp: { probe: ['msmtp', '--version'], debian: 'msmtp' },
  postfix: { probe: ['/usr/sbin/postconf', 'mail_version'], debian: 'postfix' },
  opendkim: { probe: ['/usr/sbin/opendkim', '-V'], debian: 'opendkim' },
  rspamd: { probe: ['rspamd', '--version'], debian: 'rspamd' },
  spamd: { probe: ['/usr/sbin/spamd', '--version'], debian: 'spamassassin spamd' },
  nsd: { probe: ['/usr/sbin/nsd', '-v'], debian: 'nsd' },
  knot: { probe: ['/usr/sbin/knotd', '--version'], debian: 'knot' },
  unbound: { probe: ['/usr/sbin/unbound', '-V'], debian: 'unbound' },
  chromium: { probe: ['chromium', '--version'], debian: 'chromium' },
  cc: { probe: ['cc', '--version'], debian: 'gcc libc6-dev' },
  openssl: {
    probe: ['sh', '-c', "echo '#include <openssl/ssl.h>' | cc -E -"],
    debian: 'gcc libc6-dev libssl-dev',
  },
  strace: { probe: ['strace', '-V'], debian: 'strace' },
} satisfies Record<string, Peer>;

export type PeerName = keyof typeof peers;

/** Peers that the package sources of a build machine cannot give, each with its reason. */
const unobtainable: Partial<Record<PeerName, string>> = {};

/**
 * For the `skip` option of a test: false when all are there, else the reason.
 *
 * @throws when one is missing and ATMOS_REQUIRE_PEERS=1
 */
export function needs(...names: PeerName[]): string | false {
  const missing = names.filter((name) => !isInstalled(name));
  if (missing.length === 0) return false;
  const packages = missing.map((name) => peers[name].debian).join(' ');
  const known = missing.every((name) => unobtainable[name]);
  if (process.env.ATMOS_REQUIRE_PEERS === '1' && !known) {
    throw new Error(`${missing.join(', ')} required but not installed: apt-get install ${packages}`);
  }
  return `${missing.join(', ')} not installed (Debian: ${packages})`;
}

/** One line for each peer that is not here. */
export function missingPeers(): string[] {
  return (Object.keys(peers) as PeerName[])
    .filter((name) => !isInstalled(name))
    .map((name) => `${name} (${unobtainable[name] ?? `Debian: ${peers[name].debian}`})`);
}

const found = new Map<PeerName, boolean>();

function isInstalled(name: PeerName): boolean {
  let installed = found.get(name);
  if (installed === undefined) {
    const [command, ...args] = peers[name].probe;
    const run = spawnSync(command, args, { stdio: 'ignore' });
    installed = run.error === undefined && run.status === 0;
    found.set(name, installed);
  }
  return installed;
}
