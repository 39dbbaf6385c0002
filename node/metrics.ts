/**
 * Counters of the whole node, for Prometheus.
 *
 * Everyone counts through one function, `count(what, reason)`, and knows nothing of Prometheus. The number
 * of series is bounded, because a reason may have come from outside.
 */
import { createServer, type Server } from 'node:http';
import { Counter, collectDefaultMetrics, Registry } from 'prom-client';

export type Count = (what: string, reason?: string) => void;

const maxReasons = 200;

export class Metrics {
  readonly #registry = new Registry();
  readonly #counters = new Map<string, { counter: Counter<'reason'>; reasons: Set<string> }>();

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  /** `what` in snake_case becomes `atmos_<what>_total`. */
  readonly count: Count = (what, reason = '') => {
    const known = this.#counters.get(what) ?? this.#add(what);
    const isKnown = known.reasons.has(reason) || known.reasons.size < maxReasons;
    if (isKnown) known.reasons.add(reason);
    known.counter.inc({ reason: isKnown ? reason : 'other' });
  };

  /** What a counter stands at; 0 when nothing was counted. */
  async valueOf(what: string, reason = ''): Promise<number> {
    const { values } = (await this.#counters.get(what)?.counter.get()) ?? { values: [] };
    return values.find(({ labels }) => labels.reason === reason)?.value ?? 0;
  }

  /**
   * Serves `GET /metrics` on a port of its own, which is not for the public.
   *
   * @param more what others count, in Prometheus' text form
   * @throws when the port is taken
   */
  async listen({ host, port }: { host: string; port: number }, more = () => ''): Promise<Server> {
    const server = createServer(async (request, reply) => {
      if (request.url !== '/metrics') return reply.writeHead(404).end();
      reply
        .writeHead(200, { 'content-type': this.#registry.contentType })
        .end((await this.#registry.metrics()) + more());
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(port, host, resolve);
    });
    return server;
  }

  #add(what: string) {
    const counter = new Counter({
      name: `atmos_${what}_total`,
      help: what.replaceAll('_', ' '),
      labelNames: ['reason'],
      registers: [this.#registry],
    });
    const added = { counter, reasons: new Set<string>() };
    this.#counters.set(what, added);
    return added;
  }
}
