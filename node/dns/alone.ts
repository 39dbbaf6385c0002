/**
 * The list server without a cooperative around it: zones from files, or from an AppView's feed.
 *
 * Promise: it listens only when it has a whole list to answer from, and then answers whatever becomes of
 * the files or the AppView. One composition, as node.ts is for a node; nothing here decides what is listed.
 */
import { mkdirSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Exported } from '../../dnsbl/files/export.ts';
import { subtrees } from '../../dnsbl/files/source.ts';
import { type Metric, metricsText } from '../../dnsbl/metrics.ts';
import type { HostPort } from '../config-values.ts';
import { named } from '../listening.ts';
import { Metrics } from '../metrics.ts';
import { ControlSocket } from '../operator/control.ts';
import { Stops } from '../stopping.ts';
import { type DnsStatus, dnsControl } from './control.ts';
import { ListServer } from './list-server.ts';
import type { ServerSettings } from './settings.ts';
import { lockState } from './state-lock.ts';
import { openZone, type SourcedZone, type SourcedZoneSettings } from './zone-source.ts';

export type AloneSettings = {
  listen: readonly HostPort[];
  metrics?: HostPort | undefined;
  /** Absolute. Feeds and transfers need it; with files it is for serials and for `atmos dns status`. */
  stateDir?: string | undefined;
  server: ServerSettings;
  zones: readonly SourcedZoneSettings[];
};

export type AloneOptions = {
  settings: AloneSettings;
  /** Where they came from a file that may have changed. @throws ConfigError */
  reread?: () => AloneSettings;
  log: Logger;
  now: () => number;
};

export class AloneDns {
  readonly #options: AloneOptions;
  readonly #metrics = new Metrics();
  readonly #stops: Stops;
  /** Of the start, if it is not through. */
  readonly #ending = new AbortController();
  #starting: Promise<unknown> | undefined;
  #zones: readonly SourcedZone[] = [];
  #server: ListServer | undefined;

  constructor(options: AloneOptions) {
    this.#options = options;
    this.#stops = new Stops(options.log);
  }

  /**
   * Resolves when it answers; with a feed that was never read, only when its AppView was reached.
   *
   * @throws Error for a file that cannot be read, state that is damaged, a port that is taken, or when it is
   *   stopped meanwhile; what had started is stopped then
   */
  async start(): Promise<readonly HostPort[]> {
    const starting = this.#start();
    this.#starting = starting;
    try {
      return await starting;
    } catch (error) {
      await this.#stops.run();
      throw error;
    }
  }

  /** Also in the middle of a start, which is given up. Never throws: what fails to stop is logged. */
  async stop(): Promise<void> {
    this.#ending.abort(new Error('stopped'));
    await this.#starting?.catch(() => undefined);
    await this.#stops.run();
  }

  /**
   * Reads again, of the configuration, what may change while answering, and then the zone files.
   *
   * @throws Error for settings that are refused: nothing has changed then; for a zone file that cannot be read:
   *   its zone has the entries it had then, all else is as it was read
   */
  async reload(): Promise<void> {
    const { reread, log } = this.#options;
    if (reread && this.#server) {
      const { server, zones } = reread();
      this.#server.replace(server, zones);
      log.info('DNS access settings read again; what else was changed needs a restart');
    }
    const reloaded = await Promise.all(this.#zones.map((zone) => zone.reload()));
    if (reloaded.includes(false))
      throw new Error('a zone file could not be read, the old entries stay: see the log');
  }

  /** @throws Error when no folder was given, and what the disk says */
  async export(): Promise<Exported[]> {
    if (!this.#server) throw new Error('there is nothing to export yet');
    return this.#server.export();
  }

  /** One for each zone. */
  status(): DnsStatus[] {
    return this.#zones.map((zone) => zone.status());
  }

  async #start(): Promise<readonly HostPort[]> {
    const { settings, log, now } = this.#options;
    const { listen, stateDir, server, zones, metrics } = settings;
    const { signal } = this.#ending;
    const around = { stateDir, stops: this.#stops, log, count: this.#metrics.count, now };
    warnOfHidden(
      zones.map(({ apex }) => apex),
      log,
    );
    if (stateDir !== undefined) {
      mkdirSync(stateDir, { recursive: true, mode: 0o700 });
      this.#stops.store('dns state', lockState(stateDir));
    }
    this.#zones = await this.#opened(zones.map((zone) => openZone({ settings: zone, signal, ...around })));
    if (stateDir !== undefined) await this.#control(stateDir);
    await Promise.all(this.#zones.map(({ ready }) => ready));
    signal.throwIfAborted();
    this.#server = await ListServer.start({
      ...{ zones: this.#zones, settings: server, listen, listenKey: '--listen', ...around },
    });
    signal.throwIfAborted();
    if (metrics) await this.#serveMetrics(metrics);
    signal.throwIfAborted();
    return this.#server.bound;
  }

  /** All, or none: one that fails ends the others, and what they began is known to `stops`. */
  async #opened(opening: Promise<SourcedZone>[]): Promise<readonly SourcedZone[]> {
    try {
      return await Promise.all(opening);
    } catch (error) {
      this.#ending.abort(error);
      await Promise.allSettled(opening);
      throw error;
    }
  }

  async #serveMetrics(at: HostPort): Promise<void> {
    const listening = this.#metrics.listen(at, () => metricsText(this.#measures()));
    const http = await named('--metrics', [at], listening);
    this.#stops.listener('metrics', () => http.close());
  }

  async #control(stateDir: string): Promise<void> {
    const control = new ControlSocket({ stateDir, log: this.#options.log });
    await control.app.register(
      dnsControl({
        status: () => this.status(),
        export: () => this.export(),
        reload: () => this.reload(),
      }),
    );
    await control.start();
    this.#stops.listener('control', () => control.stop());
  }

  #measures(): Metric[] {
    const statuses = this.status();
    const gauge = (name: string, help: string, read: (status: DnsStatus) => number | undefined): Metric => {
      const samples = statuses.flatMap((status) => {
        const value = read(status);
        return value === undefined ? [] : [{ name, labels: { zone: status.apex }, value }];
      });
      return { name, help, kind: 'gauge', samples };
    };
    return [
      ...this.#server!.metrics(),
      gauge('atmos_dns_list_age_seconds', 'age of what is answered', ({ ageSeconds }) => ageSeconds),
      gauge(
        'atmos_dns_feed_current',
        '1 while the AppView is followed',
        ({ feed }) => feed && Number(feed.isCurrent),
      ),
    ];
  }
}

/** Of two zones the inner one is asked: what the outer lists under its apex is never seen. */
function warnOfHidden(apexes: readonly string[], log: Logger): void {
  for (const apex of apexes) {
    const outer = apexes.find((other) => subtrees.some((subtree) => isWithin(apex, `${subtree}.${other}`)));
    if (outer) log.warn({ apex, outer }, 'DNS zone inside what another one lists: it hides those entries');
  }
}

function isWithin(apex: string, name: string): boolean {
  return apex === name || apex.endsWith(`.${name}`);
}
