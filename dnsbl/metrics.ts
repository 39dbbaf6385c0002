/**
 * What an answering thread counts beyond counters.ts, and all of it as Prometheus reads it.
 *
 * Promise: counting a query is a few plain additions in memory of its own thread; no lock, no text, no
 * allocation. The owner reads the memories of all threads when somebody asks, and may be a query behind.
 *
 * The time of answering (from the packet in hand to the answer in hand, without the sockets) is measured
 * for one query of 64: reading a clock twice costs as much as all counting together.
 *
 * Nothing here knows of Prometheus but the style of the names: whoever has a registry takes `Sample`s.
 */
import { ACCESS, type AccessCounters, accessEvents } from './access/access-counters.ts';
import { COUNTER_OCTETS, countsOf, ThreadCounters } from './counters.ts';
import { TYPE } from './records.ts';
import { outcomes } from './seams.ts';

export type Sample = { name: string; labels: Record<string, string>; value: number };

export type Metric = {
  name: string;
  help: string;
  kind: 'counter' | 'gauge' | 'histogram';
  samples: Sample[];
};

/** What is not among them counts as `other`, so nobody can make series. */
const typeNames = ['A', 'AAAA', 'TXT', 'NS', 'SOA', 'ANY', 'other'] as const;
const typeCodes = [TYPE.A, 28, TYPE.TXT, TYPE.NS, TYPE.SOA, TYPE.ANY];
const OTHER = typeNames.length - 1;
const typeIndices = Uint8Array.from({ length: 256 }, (_, code) => {
  const index = typeCodes.indexOf(code);
  return index < 0 ? OTHER : index;
});

/** Seconds. */
const latencyBounds = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2];
const LATENCY_EVERY = 64;

const PER_ZONE = typeNames.length * outcomes.length;

/** Places behind those of counters.ts, in 8 octets each. */
const FIRST = COUNTER_OCTETS / Float64Array.BYTES_PER_ELEMENT;
const ACCESS_AT = FIRST;
const LOG_WRITTEN = ACCESS_AT + accessEvents.length;
const LOG_LOST = LOG_WRITTEN + 1;
const TRUNCATED = LOG_LOST + 1;
const LATENCY_SUM = TRUNCATED + 1;
/** One for each bound, and one for all that took longer. */
const LATENCY = LATENCY_SUM + 1;
const MATRIX = LATENCY + latencyBounds.length + 1;

/** @param zones how many are counted apart; those behind count as the last place, `outside` */
export function newMetricsMemory(zones: number): SharedArrayBuffer {
  return new SharedArrayBuffer((MATRIX + (zones + 1) * PER_ZONE) * Float64Array.BYTES_PER_ELEMENT);
}

export class ThreadMetrics extends ThreadCounters implements AccessCounters {
  readonly #counts: Float64Array;
  readonly #outside: number;
  #untilTimed = LATENCY_EVERY;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.#counts = new Float64Array(memory);
    this.#outside = this.#counts.length - PER_ZONE;
  }

  override answered(zone: number, type: number, outcome: number, truncated = false): void {
    super.answered(zone, type, outcome);
    const counts = this.#counts;
    if (truncated) counts[TRUNCATED]! += 1;
    const own = MATRIX + zone * PER_ZONE;
    const from = zone < 0 || own > this.#outside ? this.#outside : own;
    const typeIndex = type < 256 ? typeIndices[type]! : OTHER;
    counts[from + typeIndex * outcomes.length + outcome]! += 1;
  }

  access(event: number): void {
    this.#counts[ACCESS_AT + event]! += 1;
  }

  logged(): void {
    this.#counts[LOG_WRITTEN]! += 1;
  }

  logLost(): void {
    this.#counts[LOG_LOST]! += 1;
  }

  /** Before an answer. @returns what timed() takes; 0: not this one */
  startTiming(): number {
    this.#untilTimed -= 1;
    if (this.#untilTimed > 0) return 0;
    this.#untilTimed = LATENCY_EVERY;
    return performance.now();
  }

  /** Behind it. @param startedMs not 0 */
  timed(startedMs: number): void {
    const seconds = (performance.now() - startedMs) / 1000;
    let bound = 0;
    while (bound < latencyBounds.length && seconds > latencyBounds[bound]!) bound += 1;
    this.#counts[LATENCY + bound]! += 1;
    this.#counts[LATENCY_SUM]! += seconds;
  }
}

/** What the owner knows without counting. */
export type ZoneFacts = {
  apex: string;
  entries: number;
  serial: number;
  /** Of the last whole table that took the place of another; undefined: there was none. */
  swapSeconds?: number;
};

export type MetricsSource = {
  /** Of all threads. */
  memories: readonly SharedArrayBuffer[];
  /** In the order in which answers are counted. */
  zones: readonly ZoneFacts[];
  tcpConnections?: number;
  subscribers?: readonly { apex: string; name: string; queriesToday: number }[];
};

/** Everything, with the sums over all threads. */
export function metricsOf(source: MetricsSource): Metric[] {
  const views = source.memories.map((memory) => new Float64Array(memory));
  const sum = (at: number) => views.reduce((total, view) => total + view[at]!, 0);
  return [
    answers(source.zones, sum, views[0]?.length ?? 0),
    ...sockets(countsOf(source.memories)),
    ...access(sum),
    latency(sum),
    ...queryLog(sum),
    ...zoneFacts(source.zones),
    ...gauges(source),
  ];
}

type Sum = (at: number) => number;

function answers(zones: readonly ZoneFacts[], sum: Sum, places: number): Metric {
  const name = 'atmos_dns_answers_total';
  const samples: Sample[] = [];
  const add = (zone: string, from: number) => {
    for (const [type, typeName] of typeNames.entries()) {
      for (const [outcome, answer] of outcomes.entries()) {
        const value = sum(from + type * outcomes.length + outcome);
        if (value > 0) samples.push(sample(name, { zone, type: typeName, answer }, value));
      }
    }
  };
  const outside = places - PER_ZONE;
  for (const [index, { apex }] of zones.entries()) {
    if (MATRIX + index * PER_ZONE < outside) add(apex, MATRIX + index * PER_ZONE);
  }
  if (places > 0) add('', outside);
  return metric(name, 'answers by zone, type and what they say', 'counter', samples);
}

/** `dns_dropped short` becomes `atmos_dns_dropped_total{reason="short"}`; dns_answers are above in full. */
function sockets(counts: ReadonlyMap<string, number>): Metric[] {
  const byName = new Map<string, Sample[]>();
  for (const [text, value] of counts) {
    const [what = '', reason = ''] = text.split(' ');
    if (what === 'dns_answers') continue;
    const name = `atmos_${what}_total`;
    const labels = { [socketLabels[what] ?? 'reason']: reason };
    byName.set(name, [...(byName.get(name) ?? []), sample(name, labels, value)]);
  }
  return [...byName].map(([name, samples]) => metric(name, socketHelp[name] ?? name, 'counter', samples));
}

const socketLabels: Record<string, string> = {
  dns_queries: 'transport',
  dns_transfers: 'event',
  dns_tsig: 'event',
  dns_threads: 'event',
};

const socketHelp: Record<string, string> = {
  atmos_dns_queries_total: 'packets and messages that came in',
  atmos_dns_dropped_total: 'queries that got no answer',
  atmos_dns_udp_errors_total: 'errors of UDP sockets',
  atmos_dns_tcp_refused_total: 'TCP connections reset at once, by the cap that was reached',
  atmos_dns_tcp_closed_total: 'TCP connections closed by us',
  atmos_dns_tcp_errors_total: 'errors of TCP sockets',
  atmos_dns_transfers_total: 'requests for a zone over TCP',
  atmos_dns_tsig_total: 'answers to signed questions, and those whose signature was not right',
  atmos_dns_threads_total: 'answering threads that died; each is started again',
};

function access(sum: Sum): Metric[] {
  const counted = (event: keyof typeof ACCESS) => sum(ACCESS_AT + ACCESS[event]);
  const limited = 'atmos_dns_rate_limited_total';
  const refused = 'atmos_dns_access_denied_total';
  const cookies = 'atmos_dns_cookies_total';
  const one = (name: string, label: string, value: string, event: keyof typeof ACCESS) =>
    sample(name, { [label]: value }, counted(event));
  return [
    metric(limited, 'answers over the response rate limit; `log` went out all the same', 'counter', [
      one(limited, 'action', 'slip', 'limitedSlip'),
      one(limited, 'action', 'drop', 'limitedDrop'),
      one(limited, 'action', 'log', 'limitedLog'),
    ]),
    metric(refused, 'queries not admitted', 'counter', [
      one(refused, 'reason', 'rule_refuse', 'ruleRefuse'),
      one(refused, 'reason', 'rule_drop', 'ruleDrop'),
      one(refused, 'reason', 'client_quota', 'clientQuota'),
      one(refused, 'reason', 'key_quota', 'keyQuota'),
      one(refused, 'reason', 'key_prefix', 'keyPrefix'),
      one(refused, 'reason', 'unkeyed_closed', 'unkeyedClosed'),
    ]),
    metric(cookies, 'answered queries with a cookie option', 'counter', [
      one(cookies, 'cookie', 'valid', 'cookieValid'),
      one(cookies, 'cookie', 'invalid', 'cookieInvalid'),
      one(cookies, 'cookie', 'client_only', 'cookieNew'),
    ]),
    metric('atmos_dns_truncated_total', 'answers with TC', 'counter', [
      sample('atmos_dns_truncated_total', {}, sum(TRUNCATED)),
    ]),
  ];
}

/** Buckets include those below them, as Prometheus wants it. */
function latency(sum: Sum): Metric {
  const name = 'atmos_dns_answer_seconds';
  let count = 0;
  const buckets = latencyBounds.map((bound, index) => {
    count += sum(LATENCY + index);
    return sample(`${name}_bucket`, { le: String(bound) }, count);
  });
  count += sum(LATENCY + latencyBounds.length);
  return metric(name, `time of making an answer, of one query in ${LATENCY_EVERY}`, 'histogram', [
    ...buckets,
    sample(`${name}_bucket`, { le: '+Inf' }, count),
    sample(`${name}_sum`, {}, sum(LATENCY_SUM)),
    sample(`${name}_count`, {}, count),
  ]);
}

function queryLog(sum: Sum): Metric[] {
  const name = 'atmos_dns_query_log_total';
  return [
    metric(name, 'sampled queries for the log; `lost` found the ring full', 'counter', [
      sample(name, { fate: 'handed_on' }, sum(LOG_WRITTEN)),
      sample(name, { fate: 'lost' }, sum(LOG_LOST)),
    ]),
  ];
}

function zoneFacts(zones: readonly ZoneFacts[]): Metric[] {
  const swapped = zones.filter(({ swapSeconds }) => swapSeconds !== undefined);
  return [
    perZone('atmos_dns_zone_entries', 'listings in the zone', zones, ({ entries }) => entries),
    perZone('atmos_dns_zone_serial', 'serial of the SOA', zones, ({ serial }) => serial),
    perZone('atmos_dns_zone_swap_seconds', 'time of the last swap of the whole table', swapped, (zone) =>
      Number(zone.swapSeconds),
    ),
  ];
}

function perZone(
  name: string,
  help: string,
  zones: readonly ZoneFacts[],
  value: (zone: ZoneFacts) => number,
): Metric {
  return metric(
    name,
    help,
    'gauge',
    zones.map((zone) => sample(name, { zone: zone.apex }, value(zone))),
  );
}

function gauges({ tcpConnections, subscribers = [] }: MetricsSource): Metric[] {
  const [tcp, keys] = ['atmos_dns_tcp_connections', 'atmos_dns_subscriber_queries_today'];
  return [
    metric(tcp, 'open TCP connections', 'gauge', [
      ...(tcpConnections === undefined ? [] : [sample(tcp, {}, tcpConnections)]),
    ]),
    metric(
      keys,
      'queries of a subscriber since midnight, UTC',
      'gauge',
      subscribers.map(({ apex, name, queriesToday }) =>
        sample(keys, { zone: apex, subscriber: name }, queriesToday),
      ),
    ),
  ];
}

function metric(name: string, help: string, kind: Metric['kind'], samples: Sample[]): Metric {
  return { name, help, kind, samples };
}

function sample(name: string, labels: Record<string, string>, value: number): Sample {
  return { name, labels, value };
}

/** The text form 0.0.4, for a server without a registry of its own, and for merging two. */
export function metricsText(metrics: readonly Metric[]): string {
  const lines = metrics
    .filter(({ samples }) => samples.length > 0)
    .flatMap(({ name, help, kind, samples }) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${kind}`,
      ...samples.map((one) => `${one.name}${labelsText(one.labels)} ${one.value}`),
    ]);
  return lines.map((line) => `${line}\n`).join('');
}

function labelsText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([key, value]) => {
    const escaped = value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
    return `${key}="${escaped}"`;
  });
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
