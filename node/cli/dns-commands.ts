/** `atmos dns` alone, and what can be asked of a list server that runs. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ExportFormat } from '../../dnsbl/files/export.ts';
import type { HostPort } from '../config.ts';
import type { AloneSettings } from '../dns/alone.ts';
import type { ServerSettings } from '../dns/settings.ts';
import { print } from './options.ts';

type Words = {
  config?: string;
  listen: string[];
  apex?: string;
  workers: string;
  sockets: string;
  zone: string[];
  from?: string;
  insecure?: boolean;
  state?: string;
  ns: string[];
  hostmaster?: string;
  poll: string;
  export?: string;
  exportEvery?: string;
  exportFormat: string;
  metrics?: string;
  limit?: string;
  allow: string[];
};

const several = (value: string, before: string[]) => [...before, value];

export function addDnsCommands(program: Command): void {
  const dns = program
    .command('dns')
    .description('answer DNS from zone files, or from what an AppView lists')
    .option('--config <file>', 'everything from a file, in place of all below; several zones need it')
    .option('--listen <address:port>', 'where; again for another', several, [])
    .option('--apex <name>', 'the zone, such as list.example')
    .option('--workers <threads>', 'threads that answer UDP', '1')
    .option('--sockets <path>', 'best, native or dgram', 'best')
    .option(
      '--zone <subtree=file>',
      'dom=, ip=, block= or _vouch= and an rbldnsd file; again for another',
      several,
      [],
    )
    .option('--from <url>', 'the AppView whose listings to follow, in place of --zone')
    .option('--insecure', 'let --from be http on another machine')
    .option('--state <folder>', 'where the serial and the last state of --from are kept; --from: dns-state')
    .option('--ns <name>', 'a name server of the zone; again for another', several, [])
    .option('--hostmaster <address>', 'who answers for the zone, such as hostmaster@harbor.example')
    .option('--poll <time>', 'how often files are looked at; 0: only on SIGHUP', '10s')
    .option('--export <folder>', 'where SIGUSR2 and `atmos dns export` write the zone')
    .option('--export-every <minutes>', 'and how often by itself')
    .option('--export-format <names>', 'rbldnsd, bind, or both with a comma', 'rbldnsd,bind')
    .option('--metrics <address:port>', 'Prometheus')
    .option('--limit <mode>', 'the response rate limit: on, log or off', 'on')
    .option('--allow <prefix>', 'who is answered, all others are refused; again for another', several, [])
    .action(async (words: Words, command: Command) => {
      const settings = await settingsOf(words, command);
      const { serveDns } = await import('./dns.ts');
      await serveDns(settings);
    });
  addAsk(dns, 'status', 'GET', 'what is answered, and how old it is');
  addAsk(dns, 'export', 'POST', 'write the zone into files now');
  addAsk(dns, 'reload', 'POST', 'read zone files and access settings again');
  addKey(dns);
}

function addAsk(dns: Command, name: 'status' | 'export' | 'reload', method: 'GET' | 'POST', what: string) {
  dns
    .command(name)
    .description(what)
    .option('--state <folder>', 'of the list server that runs alone')
    .option('--config <file>', 'of what runs: a node (atmos.jsonc), or a list server alone')
    .option('--json', 'print data in place of text')
    .action(async (own: { json?: boolean }, command: Command) => {
      // `--state` and `--config` are options of `atmos dns` too, which takes them where both could.
      const { state, config } = command.optsWithGlobals() as { state?: string; config?: string };
      const { askDnsServer, dnsLines } = await import('./dns.ts');
      const answer = await askDnsServer({ state, config }, method, `/dns/${name}`);
      if (own.json) print(answer);
      else for (const line of dnsLines(answer)) console.log(line);
    });
}

function addKey(dns: Command): void {
  dns
    .command('key')
    .description('make a key for a subscriber; it is shown once and kept nowhere')
    .option('--json', 'print data in place of text')
    .action(async ({ json }: { json?: boolean }) => {
      const { newSubscriberKey } = await import('./dns.ts');
      const made = newSubscriberKey();
      if (json) return print(made);
      console.log(`For the subscriber, who asks <name>.<subtree>.<key>.<apex>: ${made.key}`);
      console.log(`For "keys" in the configuration: "keyHash": "${made.keyHash}"`);
    });
}

/** @throws Error that says which word is wrong */
async function settingsOf(words: Words, command: Command): Promise<AloneSettings | { config: string }> {
  const { config, apex, from } = words;
  if (config !== undefined) {
    const { args } = command;
    const other = command.options.find((option) => {
      const name = option.attributeName();
      return name !== 'config' && command.getOptionValueSource(name) === 'cli';
    });
    if (other ?? args[0])
      throw new Error(`${other?.long ?? args[0]}: with --config, everything stands in the file`);
    return { config };
  }
  const { parseSource } = await import('../../dnsbl/files/source.ts');
  const { milliseconds } = await import('./options.ts');
  const { defaultState } = await import('./dns.ts');
  if (apex === undefined) throw new Error('--apex is missing: the zone, such as list.example');
  if (words.listen.length === 0) throw new Error('--listen is missing, such as 127.0.0.1:5300');
  if ((from === undefined) === (words.zone.length === 0)) throw new Error('give --zone, or --from');
  const pollMs = words.poll === '0' ? 0 : milliseconds('--poll', words.poll);
  const { metrics, hostmaster, ns, state = from === undefined ? undefined : defaultState } = words;
  return {
    listen: words.listen.map((text) => hostPort('--listen', text)),
    ...(metrics !== undefined && { metrics: hostPort('--metrics', metrics) }),
    ...(state !== undefined && { stateDir: resolve(state) }),
    server: await serverOf(words),
    zones: [
      {
        ...{ apex: apex.toLowerCase().replace(/\.$/, ''), unkeyed: 'open', keys: [] },
        source:
          from === undefined
            ? { files: words.zone.map(parseSource), pollMs }
            : { from, insecure: words.insecure ?? false },
        head: {
          ...(ns.length > 0 && { nameservers: ns }),
          ...(hostmaster !== undefined && { hostmaster: await mailbox(hostmaster) }),
        },
      },
    ],
  };
}

async function mailbox(text: string): Promise<string> {
  const { mailboxName } = await import('../dns/schema.ts');
  const name = mailboxName(text);
  if (name === undefined) throw new Error(`--hostmaster ${text}: write it as hostmaster@harbor.example`);
  return name;
}

async function serverOf(words: Words): Promise<ServerSettings> {
  const { z } = await import('zod');
  const { parsePrefix } = await import('../../dnsbl/access/prefix.ts');
  const { serverShape } = await import('../dns/schema.ts');
  const { allow, limit, sockets } = words;
  const mode = oneOf('--limit', limit ?? 'on', ['on', 'log', 'off'] as const);
  for (const prefix of allow) {
    if (!parsePrefix(prefix)) throw new Error(`--allow ${prefix}: write it as 192.0.2.0/24 or one address`);
  }
  return z.object(serverShape).parse({
    workers: wholeNumber('--workers', words.workers, 0, 64),
    sockets: oneOf('--sockets', sockets, ['best', 'native', 'dgram'] as const),
    limit: { mode },
    ...(allow.length > 0 && { access: { others: 'refuse', allow } }),
    ...(words.export !== undefined && { export: exportOf(words.export, words) }),
  });
}

function oneOf<T extends string>(option: string, text: string, all: readonly T[]): T {
  const known = all.find((one) => one === text);
  if (known === undefined)
    throw new Error(`${option} ${text}: ${all.slice(0, -1).join(', ')} or ${all.at(-1)}`);
  return known;
}

function exportOf(folder: string, { exportEvery, exportFormat }: Words) {
  const formats = exportFormat.split(',');
  const isFormat = (format: string): format is ExportFormat => format === 'rbldnsd' || format === 'bind';
  if (!formats.every(isFormat)) throw new Error(`--export-format ${exportFormat}: rbldnsd, bind or both`);
  const everyMinutes =
    exportEvery === undefined ? undefined : wholeNumber('--export-every', exportEvery, 1, 10_080);
  return { dir: resolve(folder), formats, ...(everyMinutes !== undefined && { everyMinutes }) };
}

function hostPort(option: string, text: string): HostPort {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65_535) throw new Error(`${option} ${text}: write ADDRESS:PORT`);
  return { host, port: Number(port) };
}

function wholeNumber(option: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < least || number > most) {
    throw new Error(`${option} ${text}: a number from ${least} to ${most}`);
  }
  return number;
}
