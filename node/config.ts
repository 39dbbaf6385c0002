/**
 * One configuration file, read once, checked whole.
 *
 * Promise: a file that passes is complete; every other file is refused with FILE:LINE:COLUMN, what is
 * wrong there and what would be right. An unknown key is an error, with the nearest known one.
 * Comments and trailing commas are welcome (JSONC). Paths are relative to the file.
 */
import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { findNodeAtLocation, type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import { z } from 'zod';
import { type Hint, hints, schema } from './config-schema.ts';
import { nearest } from './nearest.ts';

export type { HostPort, Role } from './config-schema.ts';

/** A checked configuration: absolute paths, milliseconds, parsed addresses, all defaults filled in. */
export type Config = Omit<z.output<typeof schema>, 'did' | 'labelerUrl' | 'hostname'> & {
  did: string;
  labelerUrl: string;
  hostname: string;
  /** Absolute path of the file it came from. */
  file: string;
};

/** The configuration is missing or broken. `message` has one line a fault, each FILE:LINE:COLUMN. Exit 2. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** @throws ConfigError naming every fault at once */
export function readConfig(path: string): Config {
  const file = resolve(path);
  return checkConfig(readText(file), file);
}

/** @param file absolute path, for messages and relative paths; it is not read */
export function checkConfig(text: string, file: string): Config {
  const root = parse(text, file);
  const result = schema.safeParse(plainValue(root));
  if (!result.success) {
    throw new ConfigError(
      result.error.issues.flatMap((issue) => explain(issue, root, text, file)).join('\n'),
    );
  }
  const config = complete(result.data, file);
  const faults = contradictions(config).map(
    ([path, wrong, right]) =>
      `${place(findNodeAtLocation(root, path) ?? root, text, file)}: ${wrong}. ${right}`,
  );
  if (faults.length > 0) throw new ConfigError(faults.join('\n'));
  return config;
}

function readText(file: string): string {
  try {
    // Some editors begin a file with a byte order mark.
    return readFileSync(file, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      throw new ConfigError(
        `${file}:1:1: there is no such file. Make one with \`atmos init\`, or name it with --config.`,
      );
    }
    throw new ConfigError(
      `${file}:1:1: the file cannot be read (${code}). Give this user the right to read it.`,
    );
  }
}

function parse(text: string, file: string): Node {
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  const first = errors[0];
  if (first) {
    const where = placeOf(first.offset, text, file);
    throw new ConfigError(
      `${where}: not valid JSON here (${printParseErrorCode(first.error)}). ${advice(first)}`,
    );
  }
  if (root?.type !== 'object') {
    throw new ConfigError(`${file}:1:1: the file holds no object. It begins with { and ends with }.`);
  }
  const repeated = repeatedKeys(root).map(
    (key) => `${place(key, text, file)}: "${key.value}" stands twice. Keep one.`,
  );
  if (repeated.length > 0) throw new ConfigError(repeated.join('\n'));
  return root;
}

/** JSON would silently take the last of two. */
function repeatedKeys(node: Node): Node[] {
  const children = node.children ?? [];
  const keys = node.type === 'object' ? children.map((property) => property.children![0]!) : [];
  const repeated = keys.filter((key, i) => keys.findIndex((other) => other.value === key.value) < i);
  return [...repeated, ...children.flatMap(repeatedKeys)];
}

function advice(error: ParseError): string {
  const code = printParseErrorCode(error.error);
  if (code === 'CommaExpected') return 'Put a comma between the one before and this one.';
  if (code === 'PropertyNameExpected' || code === 'InvalidSymbol')
    return 'Put names and texts in double quotes.';
  if (code === 'CloseBraceExpected' || code === 'CloseBracketExpected') return 'A bracket is left open.';
  return 'Look at the line before it too.';
}

function plainValue(node: Node): unknown {
  if (node.type === 'array') return (node.children ?? []).map(plainValue);
  if (node.type !== 'object') return node.value;
  return Object.fromEntries(
    (node.children ?? []).map(({ children }) => [
      children![0]!.value,
      children![1] ? plainValue(children![1]) : undefined,
    ]),
  );
}

function explain(issue: z.core.$ZodIssue, root: Node, text: string, file: string): string[] {
  const path = issue.path as (string | number)[];
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const property = findNodeAtLocation(root, [...path, key])?.parent;
      return `${place(property ?? root, text, file)}: unknown key "${key}". ${suggestion(key, path)}`;
    });
  }
  const name = path.join('.');
  const node = findNodeAtLocation(root, path);
  if (!node) {
    const parent = findNodeAtLocation(root, path.slice(0, -1)) ?? root;
    return [`${place(parent, text, file)}: "${name}" is missing. ${rightFor(path)}`];
  }
  const observed = text.slice(node.offset, node.offset + Math.min(node.length, 60));
  const wrong =
    issue.code === 'custom' || issue.code === 'invalid_format' ? issue.message : lowerFirst(issue.message);
  return [`${place(node, text, file)}: "${name}": ${observed} ${wrong}. ${rightFor(path)}`];
}

function suggestion(key: string, path: (string | number)[]): string {
  const known = keysAt(path);
  const close = nearest(key, known);
  return close ? `Did you mean "${close}"?` : `Known here: ${known.join(', ')}.`;
}

function rightFor(path: (string | number)[]): string {
  const type = typeAt(path);
  const hint = type && hintOf(type);
  if (!hint) return `See "${path[0]}" in the documentation of the configuration.`;
  return `It is ${hint.means}, for example ${hint.example}.`;
}

/** Looks through `optional` and `default` wrappers, since hints stand on the inner type. */
function unwrap(type: z.core.$ZodType): z.core.$ZodType {
  const inner = (type as { _zod: { def: { innerType?: z.core.$ZodType } } })._zod.def.innerType;
  return inner ? unwrap(inner) : type;
}

function hintOf(type: z.core.$ZodType): Hint | undefined {
  const here = hints.get(type as z.ZodType);
  if (here) return here;
  const inner = (type as { _zod: { def: { innerType?: z.core.$ZodType } } })._zod.def.innerType;
  return inner ? hintOf(inner) : undefined;
}

function typeAt(path: (string | number)[]): z.core.$ZodType | undefined {
  let type: z.core.$ZodType = schema;
  let hintedAbove: z.core.$ZodType | undefined;
  for (const step of path) {
    const bare = unwrap(type);
    if (bare instanceof z.ZodObject) {
      const next: z.core.$ZodType | undefined = bare.shape[step];
      if (!next) return hintedAbove;
      type = next;
    } else if (bare instanceof z.ZodArray) type = bare.element;
    else return hintedAbove;
    if (hintOf(type)) hintedAbove = type;
  }
  return hintOf(type) ? type : hintedAbove;
}

function keysAt(path: (string | number)[]): string[] {
  let type: z.core.$ZodType = schema;
  for (const step of path) {
    const bare = unwrap(type);
    if (bare instanceof z.ZodObject) type = bare.shape[step] ?? schema;
    else if (bare instanceof z.ZodArray) type = bare.element;
    else if (bare instanceof z.ZodRecord) type = bare.valueType;
  }
  const bare = unwrap(type);
  return bare instanceof z.ZodObject ? Object.keys(bare.shape) : [];
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
    ...(data.dns?.export && {
      dns: { ...data.dns, export: { ...data.dns.export, dir: path(data.dns.export.dir) } },
    }),
    ...(data.tls && { tls: { certFile: path(data.tls.certFile), keyFile: path(data.tls.keyFile) } }),
  };
}

type Contradiction = [path: (string | number)[], wrong: string, right: string];

/** What each key alone cannot show. */
function contradictions(config: Config): Contradiction[] {
  const found: Contradiction[] = [];
  if (config.roles.includes('dns') && !config.dns) {
    found.push([['roles'], 'the role "dns" needs the section "dns"', 'Add "dns", or take the role out.']);
  }
  if (config.roles.includes('dns') && !config.roles.includes('appview')) {
    found.push([['roles'], 'the role "dns" answers what "appview" lists', 'Add the role "appview".']);
  }
  if (config.roles.includes('labeler') && !config.roles.includes('appview')) {
    found.push([
      ['roles'],
      'the role "labeler" reads attestations through "appview"',
      'Add the role "appview".',
    ]);
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
  config.dns?.nameservers.forEach((name, i) => {
    if (!`.${name}`.endsWith(`.${config.dns!.apex}`)) return;
    const wrong = `${name} is inside the zone, which holds no addresses of hosts`;
    found.push([['dns', 'nameservers', i], wrong, `Name it outside, for example ns1.${config.domain}.`]);
  });
  if (config.roles.includes('dns') && isIP(config.listen.dns.host) === 0) {
    const wrong = `"listen.dns": ${config.listen.dns.host} is a name`;
    found.push([['listen', 'dns'], wrong, 'Give the IP address on which DNS listens.']);
  }
  found.push(...sharedPorts(config));
  found.push(...publicOperatorPages(config));
  if (config.network.loopbackOnly) found.push(...beyondLoopback(config));
  return found;
}

function beyondLoopback({ listen, network, firehose, publicUrl, labelerUrl }: Config): Contradiction[] {
  const places: [path: (string | number)[], host: string][] = [
    ...Object.entries(listen).map(([key, { host }]): [string[], string] => [['listen', key], host]),
    ...network.resolvers.map(({ host }, i): [(string | number)[], string] => [
      ['network', 'resolvers', i],
      host,
    ]),
    ...firehose.map((url, i): [(string | number)[], string] => [['firehose', i], new URL(url).hostname]),
    [['network', 'plcUrl'], new URL(network.plcUrl).hostname],
    [['publicUrl'], new URL(publicUrl).hostname],
    [['labelerUrl'], new URL(labelerUrl).hostname],
  ];
  const right = 'With "loopbackOnly" every address is on 127.0.0.1, ::1 or localhost.';
  return places
    .filter(([, host]) => !isLoopbackHost(host))
    .map(([path, host]): Contradiction => [path, `"${path.join('.')}": ${host} is not on loopback`, right]);
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
function sharedPorts({ listen, roles }: Config): Contradiction[] {
  const relay = roles.includes('relay');
  const usedBy = {
    web: true,
    inbound: roles.includes('inbound'),
    dns: roles.includes('dns'),
    metrics: true,
    operator: relay,
  };
  const used = Object.entries(listen).filter(
    ([key, address]) =>
      address && ({ ...usedBy, submission: relay, submissions: relay } as Record<string, boolean>)[key],
  );
  return used.flatMap(([key, { host, port }], i) => {
    const other = used.slice(0, i).find(([, before]) => before.host === host && before.port === port);
    if (!other) return [];
    const wrong = `"listen.${key}": ${host}:${port} is also "listen.${other[0]}"`;
    return [[['listen', key], wrong, 'Give each its own port.'] as Contradiction];
  });
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

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function place(node: Node, text: string, file: string): string {
  return placeOf(node.offset, text, file);
}

function placeOf(offset: number, text: string, file: string): string {
  const before = text.slice(0, offset).split('\n');
  return `${file}:${before.length}:${before.at(-1)!.length + 1}`;
}
