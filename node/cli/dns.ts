/**
 * `atmos dns`: runs the list server alone until SIGTERM or SIGINT; SIGHUP reads the zone files and the
 * access settings again, SIGUSR2 exports (SIGUSR1 is Node's own, for its debugger).
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pino } from 'pino';
import { hashOfKey, newKey } from '../../dnsbl/access/subscriber-keys.ts';
import type { Exported } from '../../dnsbl/files/export.ts';
import { readConfig } from '../config.ts';
import { readText } from '../config-file.ts';
import { AloneDns, type AloneSettings } from '../dns/alone.ts';
import { isAloneConfig, readAloneConfig } from '../dns/alone-config.ts';
import type { DnsStatus } from '../dns/control.ts';
import { callNode } from '../operator/control.ts';

/** Where a list that follows a feed keeps its last state, when nobody says where. */
export const defaultState = 'dns-state';

/** @param from its settings, or the file that has them. @throws Error for what cannot be read or listened on */
export async function serveDns(from: AloneSettings | { config: string }): Promise<void> {
  const reread = 'config' in from ? () => readAloneConfig(from.config) : undefined;
  const settings = 'config' in from ? readAloneConfig(from.config) : from;
  const list = settings.zones.map(({ apex }) => apex).join(' ');
  const log = pino({ base: { list } }, pino.destination({ dest: 2, sync: true }));
  const dns = new AloneDns({ settings, ...(reread && { reread }), log, now: Date.now });
  const end = (error: unknown) => {
    log.fatal({ err: error }, 'the list server stops');
    process.exit(1);
  };
  process.on('uncaughtException', end).on('unhandledRejection', end);
  const stopping = stopSignal();
  // Before the start, whose end may have to wait for an AppView, as a signal without a handler kills.
  process.on('SIGHUP', () => void dns.reload().catch((err) => log.error({ err }, 'not read again')));
  process.on('SIGUSR2', () => void dns.export().catch((err) => log.error({ err }, 'DNS zone not exported')));
  const started = dns.start().then((listen) => {
    const zones = dns.status().map(({ apex, entries, serial, ageSeconds }) => ({
      ...{ apex, entries, serial, ageSeconds },
    }));
    log.info({ listen, zones }, 'ready');
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
  where: { state?: string | undefined; config?: string | undefined },
  method: 'GET' | 'POST',
  path: string,
): Promise<Answer> {
  const answer = (await callNode(stateDirOf(where), method, path)) as Answer;
  if (answer.failed !== undefined) throw new Error(answer.failed);
  return answer;
}

/** Of what was named; else of the node here, or of the list server that was started here without a name for it. */
function stateDirOf({ state, config }: { state?: string | undefined; config?: string | undefined }): string {
  if (state !== undefined) return resolve(state);
  if (config === undefined && !existsSync('atmos.jsonc') && existsSync(defaultState))
    return resolve(defaultState);
  const file = resolve(config ?? 'atmos.jsonc');
  return isAloneConfig(readText(file), file) ? readAloneConfig(file).stateDir! : readConfig(file).stateDir;
}

/** For people. */
export function dnsLines({ zones = [], exported = [], reloaded }: Answer): string[] {
  return [
    ...zones.flatMap(statusLines),
    ...exported.map(
      ({ entries, serial, files, leftOut, tookMs }) =>
        `${entries} entries of serial ${serial} in ${files.length} files, ${tookMs} ms${
          leftOut === 0 ? '' : `; ${leftOut} LEFT OUT, whose text cannot stand on a line of rbldnsd's`
        }`,
    ),
    ...(reloaded ? ['Zone files and access settings were read again.'] : []),
  ];
}

function statusLines({ apex, entries, serial, ageSeconds, feed }: DnsStatus): string[] {
  const age = ageSeconds === undefined ? '' : `, ${ageSeconds} s old`;
  const line = `${apex}: ${entries} entries, serial ${serial}${age}`;
  if (!feed) return [line];
  const unread = ageSeconds === undefined ? ', nothing read yet' : '';
  return [line, `${feed.isCurrent ? 'follows' : 'WAITS FOR'} ${feed.from}, cursor ${feed.cursor}${unread}`];
}

/** A subscriber's key, which is nowhere else, and what stands in the configuration for it. */
export function newSubscriberKey(): { key: string; keyHash: string } {
  const key = newKey();
  return { key, keyHash: hashOfKey(key)! };
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
