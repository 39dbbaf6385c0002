/**
 * The DNS server: zones, answered on one port over UDP and TCP.
 *
 * Promise: no packet stops the process; each one is answered, or dropped and counted. The zones are
 * asked anew for every query, so a change shows in the next answer.
 *
 * Counters: `dns_queries` {udp, tcp}, `dns_answers` {outcome}, `dns_dropped` {reason}, and the sockets'
 * `dns_udp_errors`, `dns_tcp_errors`, `dns_tcp_refused`, `dns_tcp_closed`.
 */
import { isIP } from 'node:net';
import type { Logger } from 'pino';
import { answer } from './answer.ts';
import { defaultServerLimits, MAX_PORT_TRIES, type ServerLimits } from './limits.ts';
import { TcpEndpoint } from './tcp.ts';
import { UdpEndpoint } from './udp.ts';
import type { Transport } from './wire.ts';
import type { Zone } from './zone.ts';

export type DnsServerOptions = {
  zones: Zone[];
  /** `host` is an address. Port 0 takes any that is free for both UDP and TCP. */
  listen: { host: string; port: number };
  log: Logger;
  count: (what: string, reason?: string) => void;
  limits?: Partial<ServerLimits>;
};

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #zones: readonly Zone[];
  readonly #udp: UdpEndpoint;
  readonly #tcp: TcpEndpoint;

  /** @throws RangeError when `listen.host` is no address */
  constructor(options: DnsServerOptions) {
    if (isIP(options.listen.host) === 0) throw new RangeError(`${options.listen.host} is no IP address`);
    this.#options = options;
    // Of two zones, one inside the other, the inner has the longer apex and must be asked first.
    this.#zones = options.zones.toSorted((a, b) => b.apex.length - a.apex.length);
    const limits = { ...defaultServerLimits, ...options.limits };
    const { count } = options;
    this.#udp = new UdpEndpoint({ answer: (packet) => this.#answer(packet, 'udp'), limits, count });
    this.#tcp = new TcpEndpoint({ answer: (packet) => this.#answer(packet, 'tcp'), limits, count });
  }

  /**
   * @returns where it listens
   * @throws the error of the socket, with its `code` (EADDRINUSE, EACCES); nothing listens then
   */
  async start(): Promise<{ host: string; port: number }> {
    const { host, port } = this.#options.listen;
    for (let tries = 1; ; tries++) {
      try {
        return { host, port: await this.#bind(host, port) };
      } catch (error) {
        if (port !== 0 || tries === MAX_PORT_TRIES || !isTaken(error)) throw error;
      }
    }
  }

  /** Open connections are cut; whoever still waits for an answer asks again, here or elsewhere. */
  async stop(): Promise<void> {
    await Promise.all([this.#udp.close(), this.#tcp.close()]);
  }

  async #bind(host: string, wanted: number): Promise<number> {
    try {
      const port = await this.#udp.listen(host, wanted);
      await this.#tcp.listen(host, port);
      return port;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  #answer(packet: Buffer, transport: Transport): Buffer | undefined {
    const { count } = this.#options;
    count('dns_queries', transport);
    try {
      const reply = answer(packet, transport, this.#zones);
      if (reply.kind === 'answered') {
        count('dns_answers', reply.outcome);
        return reply.message;
      }
      count('dns_dropped', reply.reason);
    } catch (err) {
      // A fault of ours. It must not be a packet with which anyone can stop the mail as well.
      count('dns_dropped', 'fault');
      this.#options.log.error({ err, packet: packet.toString('hex', 0, 512) }, 'DNS answer failed');
    }
    return undefined;
  }
}

function isTaken(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
}
