/** `atmos dns` alone, and what can be asked of a list server that runs. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ExportFormat } from '../../dnsbl/files/export.ts';
import type { HostPort } from '../config.ts';
import type { DnsOnlyOptions } from '../dns-only.ts';
import { print } from './options.ts';

type Words = {
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
};

const several = (value: string, before: string[]) => [...before, value];

export function addDnsCommands(program: Command): void {
  const dns = program
    .command('dns')
    .description('answer DNS from zone files, or from what an AppView lists')
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
    .option('--state <folder>', 'where the last state of --from and the serial are kept')
    .option('--ns <name>', 'a name server of the zone; again for another', several, [])
    .option('--hostmaster <address>', 'who answers for the zone, such as hostmaster@harbor.example')
    .option('--poll <time>', 'how often files are looked at; 0: only on SIGHUP', '10s')
    .option('--export <folder>', 'where SIGUSR2 and `atmos dns export` write the zone')
    .option('--export-every <minutes>', 'and how often by itself')
    .option('--export-format <names>', 'rbldnsd, bind, or both with a comma', 'rbldnsd,bind')
    .option('--metrics <address:port>', 'Prometheus')
    .action(async (words: Words) => {
      const options = await optionsOf(words);
      const { serveDns } = await import('./dns.ts');
      await serveDns(options);
    });
  addAsk(dns, 'status', 'GET', 'what is answered, and how old it is');
  addAsk(dns, 'export', 'POST', 'write the zone into files now');
  addAsk(dns, 'reload', 'POST', 'read the zone files again');
}

function addAsk(dns: Command, name: 'status' | 'export' | 'reload', method: 'GET' | 'POST', what: string) {
  dns
    .command(name)
    .description(what)
    .option('--state <folder>', 'of the list server that runs alone')
    .option('--config <file>', 'of the node that runs', 'atmos.jsonc')
    .option('--json', 'print data in place of text')
    .action(async (own: { config: string; json?: boolean }, command: Command) => {
      // `--state` is an option of `atmos dns` too, which takes it where both could.
      const { state } = command.optsWithGlobals() as { state?: string };
      const { askDnsServer, dnsLines } = await import('./dns.ts');
      const answer = await askDnsServer({ ...own, state }, method, `/dns/${name}`);
      if (own.json) print(answer);
      else for (const line of dnsLines(answer)) console.log(line);
    });
}

/** @throws Error that says which word is wrong */
async function optionsOf(words: Words): Promise<Omit<DnsOnlyOptions, 'log' | 'now'>> {
  const { parseSource } = await import('../../dnsbl/files/source.ts');
  const { milliseconds } = await import('./options.ts');
  const { apex, from, sockets } = words;
  if (apex === undefined) throw new Error('--apex is missing: the zone, such as list.example');
  if (words.listen.length === 0) throw new Error('--listen is missing, such as 127.0.0.1:5300');
  if ((from === undefined) === (words.zone.length === 0)) throw new Error('give --zone, or --from');
  if (from !== undefined && words.state === undefined) {
    throw new Error('--from needs --state, a folder for its last state');
  }
  if (sockets !== 'best' && sockets !== 'native' && sockets !== 'dgram') {
    throw new Error(`--sockets ${sockets}: best, native or dgram`);
  }
  const pollMs = words.poll === '0' ? 0 : milliseconds('--poll', words.poll);
  const { metrics, hostmaster, ns, state } = words;
  return {
    ...{ apex, sockets },
    listen: words.listen.map((text) => hostPort('--listen', text)),
    workers: wholeNumber('--workers', words.workers, 0, 64),
    source:
      from === undefined
        ? { files: words.zone.map(parseSource), pollMs }
        : { from, insecure: words.insecure ?? false },
    zone: {
      ...(ns.length > 0 && { nameservers: ns }),
      ...(hostmaster !== undefined && { hostmaster: hostmaster.replace('@', '.') }),
    },
    ...(state !== undefined && { stateDir: resolve(state) }),
    ...(words.export !== undefined && { export: exportOf(words.export, words) }),
    ...(metrics !== undefined && { metrics: hostPort('--metrics', metrics) }),
  };
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
