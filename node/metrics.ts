/**
 * Counters of the whole node, for Prometheus.
 *
 * Everyone counts through one function, `count(what, reason)`, and knows nothing of Prometheus. The number
 * of series is bounded, because a reason may have come from outside. prom-client writes them down; it is
 * loaded where somebody may ask: with its own measures of the process it is 1.4 MB of heap and a timer that wakes
 * up all the time.
 */
import { createServer, type Server } from 'node:http';

export type Count = (what: string, reason?: string) => void;

const maxReasons = 200;

export class Metrics {
  /** By what, then by reason. */
  readonly #counted = new Map<string, Map<string, number>>();

  /** `what` in snake_case becomes `atmos_<what>_total`. */
  readonly count: Count = (what, reason = '') => {
    const reasons = this.#counted.get(what) ?? new Map<string, number>();
    this.#counted.set(what, reasons);
    const shown = reasons.has(reason) || reasons.size < maxReasons ? reason : 'other';
    reasons.set(shown, (reasons.get(shown) ?? 0) + 1);
  };

  /**
   * Serves `GET /metrics` on a port of its own, which is not for the public.
   *
   * @param more what others count, in Prometheus' text form
   * @throws when the port is taken
   */
  async listen({ host, port }: { host: string; port: number }, more = () => ''): Promise<Server> {
    const { collectDefaultMetrics, Registry } = await import('prom-client');
    const process = new Registry();
    collectDefaultMetrics({ register: process });
    const server = createServer(async (request, reply) => {
      if (request.url !== '/metrics') return reply.writeHead(404).end();
      reply
        .writeHead(200, { 'content-type': process.contentType })
        .end((await process.metrics()) + (await this.#written()) + more());
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(port, host, resolve);
    });
    return server;
  }

  /** Our counters as Prometheus reads them. */
  async #written(): Promise<string> {
    const { Counter, Registry } = await import('prom-client');
    const registry = new Registry();
    for (const [what, reasons] of this.#counted) {
      const counter = new Counter({
        name: `atmos_${what}_total`,
        help: what.replaceAll('_', ' '),
        labelNames: ['reason'],
        registers: [registry],
      });
      for (const [reason, times] of reasons) counter.inc({ reason }, times);
    }
    return registry.metrics();
  }
}
