/**
 * One configuration file, read once, checked whole.
 *
 * Promise: a file that passes is complete; every other file is refused with FILE:LINE:COLUMN, what is
 * wrong there and what would be right. An unknown key is an error, with the nearest known one.
 * Comments and trailing commas are welcome (JSONC). Paths are relative to the file.
 */
import { BlockList, isIP } from 'node:net';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { z } from 'zod';
import { type Contradiction, checkFile, type Path, readText } from './config-file.ts';
import { schema } from './config-schema.ts';
import type { HostPort } from './config-values.ts';
import { dnsContradictions, withPaths } from './dns/settings.ts';

export { ConfigError } from './config-file.ts';
export type { Role } from './config-schema.ts';
export type { HostPort } from './config-values.ts';

/** A checked configuration: absolute paths, milliseconds, parsed addresses, all defaults filled in. */
export type Config = Omit<z.output<typeof schema>, 'did' | 'labelerUrl' | 'hostname'> & {
  did: string;
  labelerUrl: string;
  hostname: string;
  /** Absolute path of the file it came from. */
  file: string;
};

/** @throws ConfigError naming every fault at once */
export function readConfig(path: string): Config {
  const file = resolve(path);
  return checkConfig(readText(file), file);
}

/** @param file absolute path, for messages and relative paths; it is not read */
export function checkConfig(text: string, file: string): Config {
  const { data, refuse } = checkFile(schema, text, file);
  const config = complete(data, file);
  refuse(contradictions(config));
  return config;
}

function complete(data: z.output<typeof schema>, file: string): Config {
  const folder = dirname(file);
  const path = (name: string) => (isAbsolute(name) ? name : join(folder, name));
  const { host } = new URL(data.publicUrl);
  return {
    ...data,
    file,
    did: data.did ?? `did:web:${encodeURIComponent(host)}`,
    labelerUrl: data.labelerUrl ?? data.publicUrl,
    hostname: data.hostname ?? data.domain,
    stateDir: path(data.stateDir),
    ...(data.dns && { dns: withPaths(data.dns, path) }),
    ...(data.tls && { tls: { certFile: path(data.tls.certFile), keyFile: path(data.tls.keyFile) } }),
  };
}

/** What each key alone cannot show. */
function contradictions(config: Config): Contradiction[] {
  const found: Contradiction[] = [];
  if (config.roles.includes('dns') && !config.dns) {
    found.push([['roles'], 'the role "dns" needs the section "dns"', 'Add "dns", or take the role out.']);
  }
  if (config.roles.includes('dns') && !config.roles.includes('appview')) {
    found.push([['roles'], 'the role "dns" answers what "appview" lists', 'Add the role "appview".']);
  }
  if (config.labeler.labelLifetime < 3 * config.labeler.reverifyInterval) {
    const wrong = 'labels would expire between two checks, at which they are renewed';
    found.push([['labeler', 'labelLifetime'], wrong, 'Give at least three times "reverifyInterval".']);
  }
  if (!config.caps.tiers.standard) {
    found.push([['caps', 'tiers'], 'the tier "standard" is missing', 'Every member starts in it: add it.']);
  }
  config.peers.forEach((peer, i) => {
    if (peer.did === config.did) {
      found.push([['peers', i, 'did'], 'a cooperative is not its own peer', 'Take the entry out.']);
    } else if (config.peers.findIndex((other) => other.did === peer.did) < i) {
      found.push([['peers', i, 'did'], `${peer.did} is named twice`, 'Keep one of the two.']);
    }
  });
  if (config.dns) found.push(...dnsContradictions(['dns'], config.dns, [config.dns], () => ['dns']));
  if (config.roles.includes('dns')) found.push(...namedInDns(config));
  found.push(...sharedPorts(config));
  found.push(...publicOperatorPages(config));
  if (config.network.loopbackOnly) found.push(...beyondLoopback(config));
  return found;
}

/** Which addresses a name has may change; where it listens may not. */
function namedInDns({ listen }: Config): Contradiction[] {
  const right = 'Give the IP address on which DNS listens.';
  return listen.dns
    .map(({ host }, index): [Path, string] => [['listen', 'dns', index], host])
    .filter(([, host]) => isIP(host) === 0)
    .map(([path, host]): Contradiction => [path, `"listen.dns": ${host} is a name`, right]);
}

/** Those that the roles open, each with its place; the others may say what they like. DNS may have several. */
function usedListeners({ listen, roles }: Config): [path: Path, address: HostPort][] {
  const relay = roles.includes('relay');
  const isUsed: Record<string, boolean> = {
    ...{ web: true, metrics: true },
    ...{ submission: relay, submissions: relay, operator: relay },
    inbound: roles.includes('inbound'),
    dns: roles.includes('dns'),
  };
  return Object.entries(listen).flatMap(([key, value]): [Path, HostPort][] => {
    if (value === undefined || !isUsed[key]) return [];
    if (!Array.isArray(value)) return [[['listen', key], value]];
    return value.map((one: HostPort, index): [Path, HostPort] => [['listen', key, index], one]);
  });
}

function beyondLoopback(config: Config): Contradiction[] {
  const { network, firehose, publicUrl, labelerUrl } = config;
  const places: [path: Path, host: string][] = [
    ...usedListeners(config).map(([path, { host }]): [Path, string] => [path, host]),
    ...network.resolvers.map(({ host }, i): [Path, string] => [['network', 'resolvers', i], host]),
    ...firehose.map((url, i): [Path, string] => [['firehose', i], new URL(url).hostname]),
    [['network', 'plcUrl'], new URL(network.plcUrl).hostname],
    [['publicUrl'], new URL(publicUrl).hostname],
    [['labelerUrl'], new URL(labelerUrl).hostname],
  ];
  const right = 'With "loopbackOnly" every address is on 127.0.0.1, ::1 or localhost.';
  return places
    .filter(([, host]) => !isLoopbackHost(host))
    .map(([path, host]): Contradiction => [path, `"${nameOf(path)}": ${host} is not on loopback`, right]);
}

/** They have no TLS of their own, and a session is a cookie: nothing for the open internet. */
function publicOperatorPages({ listen }: Config): Contradiction[] {
  const { operator } = listen;
  if (!operator || isLoopbackHost(operator.host) || isPrivate(operator.host)) return [];
  const wrong = `"listen.operator": ${operator.host} can be reached from outside`;
  return [
    [['listen', 'operator'], wrong, 'Listen on 127.0.0.1 or a private address, and go there by SSH or VPN.'],
  ];
}

/** Two listeners on one TCP port: the second would find it taken, by ourselves. */
function sharedPorts(config: Config): Contradiction[] {
  const used = usedListeners(config);
  return used.flatMap(([path, { host, port }], i) => {
    const other = used.slice(0, i).find(([, before]) => before.host === host && before.port === port);
    if (!other) return [];
    const wrong = `"${nameOf(path)}": ${host}:${port} is also "${nameOf(other[0])}"`;
    return [[path, wrong, 'Give each its own port.'] as Contradiction];
  });
}

/** Without the place in a list: `listen.dns`. */
function nameOf(path: Path): string {
  return path.filter((step) => typeof step === 'string').join('.');
}

// RFC 1918, RFC 6598 (carriers, and many VPNs), RFC 3927, RFC 4193, RFC 4291 §2.5.6.
const privateAddresses = new BlockList();
for (const [net, prefix] of [
  ['10.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['100.64.0.0', 10],
  ['169.254.0.0', 16],
] as const)
  privateAddresses.addSubnet(net, prefix, 'ipv4');
privateAddresses.addSubnet('fc00::', 7, 'ipv6');
privateAddresses.addSubnet('fe80::', 10, 'ipv6');

function isPrivate(host: string): boolean {
  const version = isIP(host);
  return version !== 0 && privateAddresses.check(host, version === 4 ? 'ipv4' : 'ipv6');
}

function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
