/**
 * The list server without a cooperative around it: zones from files, or from an AppView's feed.
 *
 * Promise: it listens only when it has a whole list to answer from, and then answers whatever becomes of
 * the files or the AppView. One composition, as node.ts is for a node; nothing here decides what is listed.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Feed } from '../dnsbl/feed/feed.ts';
import { SerialFile } from '../dnsbl/feed/serial-file.ts';
import { FeedState } from '../dnsbl/feed/state.ts';
import type { Exported, ExportFormat } from '../dnsbl/files/export.ts';
import { Exporter } from '../dnsbl/files/exporter.ts';
import type { ZoneHead, ZoneSource } from '../dnsbl/files/source.ts';
import { FollowedFiles } from '../dnsbl/files/zone-files.ts';
import { type Metric, metricsText } from '../dnsbl/metrics.ts';
import { DnsServer } from '../dnsbl/server.ts';
import { Zone } from '../dnsbl/zone.ts';
import type { HostPort } from './config.ts';
import { type DnsStatus, dnsControl } from './dns-control.ts';
import { named } from './listening.ts';
import { Metrics } from './metrics.ts';
import { ControlSocket } from './operator/control.ts';
import { Stops } from './stopping.ts';

export type DnsOnlyOptions = {
  listen: readonly HostPort[];
  apex: string;
  workers: number;
  sockets: 'best' | 'native' | 'dgram';
  /** One of the two. */
  source: { files: readonly ZoneSource[]; pollMs: number } | { from: string; insecure: boolean };
  /** Absolute. A feed needs it; with files it is for the serial and for `atmos dns status`. */
  stateDir?: string;
  /** What the files do not say, or say otherwise. */
  zone: { nameservers?: string[]; hostmaster?: string; ttlSeconds?: number; negativeTtlSeconds?: number };
  export?: { dir: string; formats: ExportFormat[]; everyMinutes?: number };
  metrics?: HostPort;
  log: Logger;
  now: () => number;
};

/** Where nobody said better. RFC 6761 §6.3: a name of no other machine. */
const unnamed = { nameservers: ['localhost'], hostmaster: 'hostmaster.localhost' };

export class DnsOnly {
  readonly #options: DnsOnlyOptions;
  readonly #metrics = new Metrics();
  readonly #stops: Stops;
  #zone: Zone | undefined;
  #server: DnsServer | undefined;
  #feed: Feed | undefined;
  #files: FollowedFiles | undefined;
  #exporter: Exporter | undefined;

  constructor(options: DnsOnlyOptions) {
    this.#options = options;
    this.#stops = new Stops(options.log);
  }

  /**
   * Resolves when it answers; with a feed that was never read, only when the AppView was reached.
   *
   * @throws Error for a file that cannot be read, state that is damaged, or a port that is taken
   */
  async start(): Promise<HostPort[]> {
    try {
      return await this.#start();
    } catch (error) {
      await this.#stops.run();
      throw error;
    }
  }

  /** Never throws: what fails to stop is logged. */
  async stop(): Promise<void> {
    await this.#stops.run();
  }

  /** Reads the files again; a feed has nothing to be read again. @returns false when they could not be read */
  async reload(): Promise<boolean> {
    return (await this.#files?.reload()) ?? true;
  }

  /** @throws Error when no folder was given, and what the disk says */
  async export(): Promise<Exported[]> {
    if (!this.#exporter) throw new Error('there is nowhere to export to: start with --export DIR');
    return this.#exporter.run();
  }

  status(): DnsStatus {
    const zone = this.#zone!;
    const feed = this.#feed?.status();
    const ageMs = feed ? feed.ageMs : this.#options.now() - this.#files!.modifiedMs;
    const ageSeconds = ageMs === undefined ? undefined : Math.max(0, Math.round(ageMs / 1000));
    return { apex: zone.apex, entries: zone.size, serial: zone.serial, ageSeconds, ...(feed && { feed }) };
  }

  async #start(): Promise<HostPort[]> {
    const { source, stateDir, export: target, log } = this.#options;
    if (stateDir !== undefined) mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const zone = 'from' in source ? this.#empty({}) : await this.#fromFiles(source);
    this.#zone = zone;
    if (stateDir !== undefined) await this.#control(stateDir);
    if ('from' in source) await this.#follow(zone, source);
    if (target) {
      const { count } = this.#metrics;
      this.#exporter = new Exporter({ zones: [zone], ...target, log, count });
      this.#exporter.start();
      this.#stops.work('export', () => this.#exporter!.stop());
    }
    return this.#listen(zone);
  }

  #empty(head: ZoneHead): Zone {
    const { apex, stateDir, zone: given, log, now } = this.#options;
    const nameservers = given.nameservers ?? head.nameservers;
    if (!nameservers)
      log.warn({ apex, ns: unnamed.nameservers }, 'DNS zone: nobody named its name servers: --ns');
    const serials =
      stateDir === undefined
        ? undefined
        : new SerialFile(join(stateDir, 'serial'), (err) => log.error({ err }, 'DNS serial not kept'));
    return new Zone({
      apex,
      nameservers: nameservers ?? unnamed.nameservers,
      hostmaster: given.hostmaster ?? head.hostmaster ?? unnamed.hostmaster,
      ttlSeconds: given.ttlSeconds ?? head.ttl,
      negativeTtlSeconds: given.negativeTtlSeconds ?? head.negativeTtl,
      serial: Math.max(serials?.last ?? 0, head.serial ?? 0),
      onSerial: (serial) => serials?.keep(serial),
      now,
    });
  }

  async #fromFiles({
    files: sources,
    pollMs,
  }: {
    files: readonly ZoneSource[];
    pollMs: number;
  }): Promise<Zone> {
    const { apex, log, now } = this.#options;
    const files = new FollowedFiles({ apex, sources, pollMs, log, now, count: this.#metrics.count });
    this.#files = files;
    this.#stops.work('zone files', () => files.stop());
    const loaded = await files.load();
    const zone = this.#empty(loaded.head);
    zone.adopt(loaded.table);
    files.follow(zone);
    return zone;
  }

  async #follow(zone: Zone, { from, insecure }: { from: string; insecure: boolean }): Promise<void> {
    const { stateDir, log, now } = this.#options;
    if (stateDir === undefined) throw new Error('a feed needs a folder for its last state: --state DIR');
    const state = new FeedState(join(stateDir, 'feed'), from);
    const feed = new Feed({ from, insecure, zone, state, log, now, count: this.#metrics.count });
    this.#feed = feed;
    await feed.start();
    this.#stops.work('feed', () => feed.stop());
    await feed.ready;
  }

  async #listen(zone: Zone): Promise<HostPort[]> {
    const { listen, workers, sockets, metrics, log } = this.#options;
    const server = new DnsServer({ zones: [zone], listen, workers, ...(workers > 0 && { sockets }), log });
    this.#server = server;
    const bound = await named('--listen', listen[0]!, server.start());
    this.#stops.listener('dns', () => server.stop());
    if (metrics) {
      const http = await named(
        '--metrics',
        metrics,
        this.#metrics.listen(metrics, () => this.#text()),
      );
      this.#stops.listener('metrics', () => http.close());
    }
    return bound;
  }

  async #control(stateDir: string): Promise<void> {
    const control = new ControlSocket({ stateDir, log: this.#options.log });
    await control.app.register(
      dnsControl({
        status: () => [this.status()],
        export: () => this.export(),
        reload: () => this.reload(),
      }),
    );
    await control.start();
    this.#stops.listener('control', () => control.stop());
  }

  #text(): string {
    const { apex, entries, serial, ageSeconds, feed } = this.status();
    const gauge = (name: string, help: string, value: number | undefined): Metric => {
      const samples = value === undefined ? [] : [{ name, labels: { zone: apex }, value }];
      return { name, help, kind: 'gauge', samples };
    };
    return metricsText([
      gauge('atmos_dns_list_entries', 'entries that are answered', entries),
      gauge('atmos_dns_list_serial', 'serial of the zone', serial),
      gauge('atmos_dns_list_age_seconds', 'age of what is answered', ageSeconds),
      gauge('atmos_dns_feed_current', '1 while the AppView is followed', feed && Number(feed.isCurrent)),
      ...counters(this.#server?.counts() ?? new Map()),
    ]);
  }
}

/** `dns_answers nxdomain` becomes `atmos_dns_answers_total{reason="nxdomain"}`. */
function counters(counts: ReadonlyMap<string, number>): Metric[] {
  const byName = Map.groupBy(counts, ([text]) => `atmos_${text.split(' ')[0]}_total`);
  return [...byName].map(([name, counted]) => ({
    ...{ name, help: name, kind: 'counter' },
    samples: counted.map(([text, value]) => ({ name, labels: { reason: text.split(' ')[1] ?? '' }, value })),
  }));
}
