/**
 * The DNS server: zones, answered over UDP and TCP on one or several addresses.
 *
 * Promise: when start() resolves, every address answers; when it rejects, none is held. No packet stops
 * the process; each one is answered, or dropped and counted. A change of a zone is in the next answer, in
 * whatever thread. When stop() resolves, all ports are free.
 *
 * UDP is answered by `workers` threads of its own, each with a socket on every address (the kernel deals
 * out the packets), or with 0 in the thread that made this object. TCP is always answered in that thread:
 * tcp.ts says why.
 */
import { isIP, isIPv6 } from 'node:net';
import type { Logger } from 'pino';
import type { Access } from './access/access.ts';
import { countsOf } from './counters.ts';
import { defaultServerLimits, MAX_PORT_TRIES, type ServerLimits } from './limits.ts';
import { type Metric, metricsOf, newMetricsMemory, ThreadMetrics } from './metrics.ts';
import { loadAddon } from './native/addon.ts';
import type { QueryLog } from './query-log.ts';
import { type Fault, Responder, type ThreadSetup } from './responder.ts';
import { beforeTheLast } from './table/letting-go.ts';
import type { ZoneShare } from './table/share.ts';
import { TcpEndpoint } from './tcp.ts';
import type { Transfer } from './transfer-seam.ts';
import { type ListenAddress, UdpEndpoint } from './udp.ts';
import type { UdpPath } from './worker-protocol.ts';
import { Workers } from './workers.ts';
import type { Zone } from './zone.ts';

export type { ListenAddress } from './udp.ts';

export type DnsServerOptions = {
  zones: readonly Zone[];
  /**
   * `host` is an address; `::` is IPv6 only, as `0.0.0.0` is IPv4 only. Port 0 takes any that is free
   * for both UDP and TCP.
   */
  listen: ListenAddress | readonly ListenAddress[];
  /** Threads that answer UDP and do nothing else. Default 0: the calling thread answers. */
  workers?: number;
  /**
   * Whose sockets the workers use. `best`, the default: the native ones where they were built, else
   * node's; `native` fails where they were not. Without workers it is node's.
   */
  sockets?: 'best' | UdpPath;
  log: Logger;
  limits?: Partial<ServerLimits>;
  /** See AnswererOptions. */
  nsid?: string;
  version?: string;
  /** Rate limit, quotas, keys and cookies; left out, everyone is answered. */
  access?: Access;
  /** Started and stopped with the server. */
  queryLog?: QueryLog;
  /** Zone transfers over TCP, and the keys of signed questions. */
  transfer?: Transfer;
};

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #listen: readonly ListenAddress[];
  readonly #limits: ServerLimits;
  /** The owner's thread first, then the workers'. A worker that takes the place of a dead one goes on in its. */
  readonly #memories: SharedArrayBuffer[];
  /** The rings of the query log, in the same order. */
  readonly #rings: (SharedArrayBuffer | undefined)[];
  #tcp: TcpEndpoint | undefined;
  #udp: UdpEndpoint[] = [];
  #workers: Workers | undefined;
  readonly #unfollow: (() => void)[] = [];

  /** @throws RangeError when `listen` has something that is no address, or nothing */
  constructor(options: DnsServerOptions) {
    const { listen, limits, workers = 0, zones, queryLog } = options;
    this.#options = options;
    this.#listen = [listen].flat();
    for (const { host } of this.#listen)
      if (isIP(host) === 0) throw new RangeError(`${host} is no IP address`);
    if (this.#listen.length === 0) throw new RangeError('there is no address to listen on');
    this.#limits = { ...defaultServerLimits, ...limits };
    this.#memories = Array.from({ length: 1 + workers }, () => newMetricsMemory(zones.length));
    this.#rings = this.#memories.map(() => queryLog?.add());
  }

  /**
   * @returns where it listens, in the order of `listen`
   * @throws the error of the socket, with its `code` (EADDRINUSE, EACCES); nothing listens then
   */
  async start(): Promise<ListenAddress[]> {
    const path = this.#path();
    const isFree = this.#listen.some(({ port }) => port === 0);
    for (let tries = 1; ; tries++) {
      try {
        const bound = await this.#bind(path.path);
        this.#say(bound, path);
        this.#options.queryLog?.start();
        return bound;
      } catch (error) {
        await this.stop();
        if (!isFree || tries === MAX_PORT_TRIES || !isTaken(error)) throw error;
      }
    }
  }

  /** Open connections are cut; whoever still waits for an answer asks again, here or elsewhere. */
  async stop(): Promise<void> {
    const [tcp, udp, workers] = [this.#tcp, this.#udp, this.#workers];
    this.#tcp = undefined;
    this.#udp = [];
    this.#workers = undefined;
    for (const unfollow of this.#unfollow.splice(0)) unfollow();
    await Promise.all([tcp?.close(), workers?.stop(), ...udp.map((endpoint) => endpoint.close())]);
    this.#options.queryLog?.stop();
  }

  /** What was counted since this object was made, over all threads: `dns_answers nxdomain`, … */
  counts(): Map<string, number> {
    return countsOf(this.#memories);
  }

  /** The same and more, for Prometheus. */
  metrics(): Metric[] {
    const { zones, access } = this.#options;
    return metricsOf({
      memories: this.#memories,
      zones: zones.map(({ apex, size, serial, swapSeconds }) => ({
        ...{ apex, entries: size, serial },
        ...(swapSeconds !== undefined && { swapSeconds }),
      })),
      tcpConnections: this.#tcp?.connections ?? 0,
      subscribers: access?.subscribers(),
    });
  }

  #path(): { path: UdpPath; why?: string } {
    const { workers = 0, sockets = 'best' } = this.#options;
    if (sockets === 'dgram') return { path: 'dgram' };
    if (workers === 0) {
      if (sockets === 'native') throw new RangeError('native DNS sockets need workers');
      return { path: 'dgram' };
    }
    const loaded = loadAddon();
    if ('addon' in loaded) return { path: 'native' };
    if (sockets === 'native') throw new Error(`native DNS sockets: ${loaded.why}`);
    return { path: 'dgram', why: loaded.why };
  }

  /**
   * TCP comes first: its ports are never shared, so a second server on the same address fails here, and
   * does not silently take half of the packets of the first by SO_REUSEPORT.
   */
  async #bind(path: UdpPath): Promise<ListenAddress[]> {
    const { workers = 0, transfer } = this.#options;
    const counters = new ThreadMetrics(this.#memories[0]!);
    const responder = this.#responder(counters);
    const unfollow = this.#options.access?.follow((share) => {
      responder.replaceAccess(share);
      this.#workers?.replaceAccess(share);
    });
    if (unfollow) this.#unfollow.push(unfollow);
    for (const zone of this.#options.zones)
      this.#unfollow.push(followed(zone, () => beforeTheLast(zone.size, () => responder.refresh())));
    this.#tcp = new TcpEndpoint({ responder, counters, limits: this.#limits, transfer });
    const bound: ListenAddress[] = [];
    for (const { host, port } of this.#listen)
      bound.push({ host, port: await this.#tcp.listen({ host, port }) });
    if (workers > 0) await this.#startWorkers(bound, path, counters);
    else await this.#startHere(bound, responder, counters);
    return bound;
  }

  async #startHere(bound: ListenAddress[], responder: Responder, counters: ThreadMetrics): Promise<void> {
    const { maxUdpSends } = this.#limits;
    for (const address of bound) {
      const endpoint = new UdpEndpoint(address, { responder, counters, maxUdpSends, reusePort: false });
      this.#udp.push(endpoint);
      await endpoint.listen();
    }
  }

  async #startWorkers(listen: ListenAddress[], path: UdpPath, counters: ThreadMetrics): Promise<void> {
    const { workers: count = 0, log } = this.#options;
    const { maxUdpSends } = this.#limits;
    const setupOf = (index: number) => ({
      thread: this.#setup(1 + index),
      listen,
      path,
      reusePort: count > 1,
      maxUdpSends,
    });
    const workers = new Workers({ setupOf, count, log, counters });
    this.#workers = workers;
    for (const zone of this.#options.zones)
      this.#unfollow.push(followed(zone, (share) => workers.swap(share)));
    await workers.start();
  }

  /** @param thread 0: the owner's */
  #setup(thread: number): ThreadSetup {
    const { zones, nsid, version, access, transfer } = this.#options;
    const memory = { counters: this.#memories[thread]!, queryLog: this.#rings[thread] };
    const tsigKeys = transfer?.keys ?? [];
    return {
      zones: zones.map((zone) => zone.share()),
      ...memory,
      access: access?.share(),
      ...{ tsigKeys, nsid, version },
    };
  }

  #responder(counters: ThreadMetrics): Responder {
    const { zones, log } = this.#options;
    return new Responder({
      setup: this.#setup(0),
      counters,
      newest: () => zones.map((zone) => zone.share()),
      onFault: ({ error, packetHex }: Fault) =>
        log.error({ err: error, packet: packetHex }, 'DNS answer failed'),
    });
  }

  #say(bound: readonly ListenAddress[], { path, why }: { path: UdpPath; why?: string }): void {
    const { log, zones, workers = 0 } = this.#options;
    const facts = {
      addresses: bound.map(({ host, port }) => (isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`)),
      zones: zones.map(({ apex }) => apex),
      workers,
      sockets: path,
    };
    if (why === undefined) log.info(facts, 'DNS listens');
    else log.warn({ ...facts, why }, 'DNS listens, without the native sockets');
  }
}

/** @returns how to undo it */
function followed(zone: Zone, onSwap: (share: ZoneShare) => void): () => void {
  const before = zone.onSwap;
  let follows = true;
  const both = (share: ZoneShare) => {
    before?.(share);
    if (follows) onSwap(share);
  };
  zone.onSwap = both;
  return () => {
    follows = false;
    // Unless someone else came behind: then it stays in their chain, and does nothing.
    if (zone.onSwap === both) zone.onSwap = before;
  };
}

function isTaken(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
}
