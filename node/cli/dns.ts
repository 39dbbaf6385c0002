/**
 * `atmos dns`: runs the list server alone until SIGTERM or SIGINT; SIGHUP reads the zone files again,
 * SIGUSR2 exports (SIGUSR1 is Node's own, for its debugger).
 */
import { resolve } from 'node:path';
import { pino } from 'pino';
import type { Exported } from '../../dnsbl/files/export.ts';
import type { DnsStatus } from '../dns-control.ts';
import { DnsOnly, type DnsOnlyOptions } from '../dns-only.ts';
import { callNode } from '../operator/control.ts';
import { callRunning } from './options.ts';

/** Resolves when it has stopped. @throws Error for what cannot be read or listened on */
export async function serveDns(options: Omit<DnsOnlyOptions, 'log' | 'now'>): Promise<void> {
  const log = pino({ base: { list: options.apex } }, pino.destination({ dest: 2, sync: true }));
  const dns = new DnsOnly({ ...options, log, now: Date.now });
  const end = (error: unknown) => {
    log.fatal({ err: error }, 'the list server stops');
    process.exit(1);
  };
  process.on('uncaughtException', end).on('unhandledRejection', end);
  const stopping = stopSignal();
  // Before the start, whose end may have to wait for an AppView, as a signal without a handler kills.
  process.on('SIGHUP', () => void dns.reload());
  process.on('SIGUSR2', () => void dns.export().catch((err) => log.error({ err }, 'DNS zone not exported')));
  const started = dns.start().then((listen) => {
    const { entries, ageSeconds, serial } = dns.status();
    log.info({ listen, entries, ageSeconds, serial }, 'ready');
    process.send?.({ listen });
  });
  const ended = Promise.race([started.then(() => stopping), stopping]);
  const signal = await ended;
  log.info({ signal }, 'stopping');
  await dns.stop();
  await started.catch(() => undefined);
}

type Answer = { zones?: DnsStatus[]; exported?: Exported[]; failed?: string; reloaded?: boolean };

/** @throws Error when nothing runs there, or it could not do what it was asked */
export async function askDnsServer(
  { state, config }: { state?: string; config: string },
  method: 'GET' | 'POST',
  path: string,
): Promise<Answer> {
  const answer = (
    state === undefined
      ? await callRunning({ config }, method, path)
      : await callNode(resolve(state), method, path)
  ) as Answer;
  if (answer.failed !== undefined) throw new Error(answer.failed);
  if (answer.reloaded === false)
    throw new Error('a zone file could not be read, the old entries stay: see the log');
  return answer;
}

/** For people. */
export function dnsLines({ zones = [], exported = [], reloaded }: Answer): string[] {
  return [
    ...zones.flatMap(statusLines),
    ...exported.map(
      ({ entries, serial, files, tookMs }) =>
        `${entries} entries of serial ${serial} in ${files.length} files, ${tookMs} ms`,
    ),
    ...(reloaded ? ['The zone files were read again.'] : []),
  ];
}

function statusLines({ apex, entries, serial, ageSeconds, feed }: DnsStatus): string[] {
  const age = ageSeconds === undefined ? 'of unknown age' : `${ageSeconds} s old`;
  const line = `${apex}: ${entries} entries, serial ${serial}, ${age}`;
  if (!feed) return [line];
  return [line, `${feed.isCurrent ? 'follows' : 'WAITS FOR'} ${feed.from}, cursor ${feed.cursor}`];
}

function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((done) => {
    let asked = false;
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked) process.exit(130);
      asked = true;
      done(signal);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
}
