/**
 * A DNS server with all that belongs to it: access, cookies, transfers, query log, export.
 *
 * A node and `atmos dns` alone put it together the same way, here. The zones are filled before; who fills
 * them, and whoever changes them later, knows nothing of this.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Access } from '../../dnsbl/access/access.ts';
import { CookieSecrets } from '../../dnsbl/access/cookie-secrets.ts';
import type { Exported } from '../../dnsbl/files/export.ts';
import { Exporter } from '../../dnsbl/files/exporter.ts';
import type { Metric } from '../../dnsbl/metrics.ts';
import { QueryLog } from '../../dnsbl/query-log.ts';
import { DnsServer } from '../../dnsbl/server.ts';
import { parseKeys, Transfers, type TsigKey } from '../../dnsbl/transfer/transfers.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import type { HostPort } from '../config-values.ts';
import { named } from '../listening.ts';
import type { Count } from '../metrics.ts';
import type { Stops } from '../stopping.ts';
import { accessSettings, type ServerSettings, secondariesOf, type ZoneSettings } from './settings.ts';

const REFRESH_COOKIES_MS = 60_000;

export type ListServerOptions = {
  /** Filled. */
  zones: readonly { zone: Zone; settings: ZoneSettings }[];
  settings: ServerSettings;
  listen: readonly HostPort[];
  /** What messages call `listen`. */
  listenKey: string;
  /** Absolute; journals lie in it. Transfers need it. */
  stateDir: string | undefined;
  stops: Stops;
  log: Logger;
  count: Count;
  now: () => number;
};

export class ListServer {
  readonly bound: readonly HostPort[];
  readonly #apexes: readonly string[];
  readonly #access: Access;
  readonly #queryLog: QueryLog;
  readonly #server: DnsServer;
  readonly #exporter: Exporter | undefined;

  private constructor(parts: Parts, server: DnsServer, bound: readonly HostPort[]) {
    this.#apexes = parts.apexes;
    this.#access = parts.access;
    this.#queryLog = parts.queryLog;
    this.#exporter = parts.exporter;
    this.#server = server;
    this.bound = bound;
  }

  /**
   * Resolves when it answers. What has started says to `stops` how it ends, also where this fails.
   *
   * @throws Error for a port that is taken, a file of keys or secrets that cannot be used
   */
  static async start(options: ListServerOptions): Promise<ListServer> {
    const { zones, settings, listen, listenKey, stops, log } = options;
    const parts = partsOf(options);
    const transfers = await startTransfers(options);
    const { workers, sockets, nsid, version } = settings;
    const server = new DnsServer({
      ...{ zones: zones.map(({ zone }) => zone), listen, workers, log },
      ...(workers > 0 && { sockets }),
      ...{ nsid, version, access: parts.access, queryLog: parts.queryLog, transfer: transfers },
    });
    const bound = await named(listenKey, listen, server.start());
    stops.listener('dns', () => server.stop());
    parts.exporter?.start();
    return new ListServer(parts, server, bound);
  }

  /**
   * Takes over what may change while answering: limits, access, quotas, keys, query log.
   *
   * @throws AccessSettingsError, or Error when a zone that is served is no longer among `zones`, for without
   *   settings it would be open to all; nothing has changed then
   */
  replace(settings: ServerSettings, zones: readonly ZoneSettings[]): void {
    const named = new Set(zones.map(({ apex }) => apex));
    const missing = this.#apexes.filter((apex) => !named.has(apex));
    if (missing.length > 0)
      throw new Error(`${missing.join(', ')} is served, but no longer named: another apex needs a restart`);
    this.#access.replace(accessSettings(settings, zones));
    this.#queryLog.replace(settings.queryLog);
  }

  /** @throws Error when no folder was named, and what the disk says */
  async export(): Promise<Exported[]> {
    if (!this.#exporter) {
      throw new Error('there is nowhere to export to: set "dns.export", or start with --export DIR');
    }
    return this.#exporter.run();
  }

  metrics(): Metric[] {
    return this.#server.metrics();
  }
}

type Parts = { apexes: string[]; access: Access; queryLog: QueryLog; exporter: Exporter | undefined };

function partsOf({ zones, settings, stops, log, count, now }: ListServerOptions): Parts {
  const apexes = zones.map(({ zone }) => zone.apex);
  const access = accessOf(settings, accessZones(zones), now);
  const timer = setInterval(() => {
    try {
      access.refresh();
    } catch (error) {
      count('dns_cookie_secrets', 'unreadable');
      log.error({ err: error }, 'DNS cookie secrets not read again, those before them stay');
    }
  }, REFRESH_COOKIES_MS).unref();
  stops.work('dns access', () => clearInterval(timer));
  const queryLog = new QueryLog({ settings: settings.queryLog, log, apexes });
  const { export: target } = settings;
  const exporter = target && new Exporter({ zones: zones.map(({ zone }) => zone), ...target, log, count });
  if (exporter) stops.work('dns export', () => exporter.stop());
  return { apexes, access, queryLog, exporter };
}

function accessZones(zones: ListServerOptions['zones']): ZoneSettings[] {
  return zones.map(({ zone, settings }) => ({ ...settings, apex: zone.apex }));
}

function accessOf(settings: ServerSettings, zones: ZoneSettings[], now: () => number): Access {
  const { enabled, secrets } = settings.cookies;
  const file = secrets === undefined ? {} : { file: secrets };
  return new Access({
    settings: accessSettings(settings, zones),
    ...(enabled && {
      cookieSecrets: saying('dns.cookies.secrets', () => new CookieSecrets({ ...file, now })),
    }),
    now,
  });
}

/** In front of the server: what it is told from then on is in the journal, and secondaries hear of it. */
async function startTransfers(options: ListServerOptions): Promise<Transfers | undefined> {
  const { zones, settings, stateDir, stops, log, count, now } = options;
  const secondaries = secondariesOf(settings, accessZones(zones));
  if (!secondaries) return undefined;
  if (stateDir === undefined) throw new Error('zone transfers need a folder for their journals: --state DIR');
  const keysFile = settings.transfer?.keys;
  const keys = keysFile === undefined ? [] : readKeys(keysFile);
  const transfers = saying(
    'dns.transfer',
    () =>
      new Transfers({
        ...{ zones: zones.map(({ zone }) => zone), keys, ...secondaries },
        ...{ journalDir: join(stateDir, 'zones'), now, log, count },
      }),
  );
  for (const { zone } of zones) zone.onChange = (change) => transfers.changed(zone.apex, change);
  stops.work('dns transfers', () => transfers.stop());
  await transfers.start();
  return transfers;
}

/** The parser names the line, never what stands there. */
function readKeys(file: string): TsigKey[] {
  return saying(`dns.transfer.keys, ${file}`, () => parseKeys(readFileSync(file, 'utf8')));
}

function saying<T>(where: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
  }
}
