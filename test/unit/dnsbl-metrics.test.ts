import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACCESS } from '../../dnsbl/access/access-counters.ts';
import { SOCKET } from '../../dnsbl/counters.ts';
import { type Metric, metricsOf, metricsText, newMetricsMemory, ThreadMetrics } from '../../dnsbl/metrics.ts';
import { DROP, OUTCOME } from '../../dnsbl/seams.ts';
import { apex } from './dnsbl-fixtures.ts';

const zones = [{ apex, entries: 3, serial: 2026010101 }];

function threads(count: number) {
  const memories = Array.from({ length: count }, () => newMetricsMemory(zones.length));
  return { memories, metrics: memories.map((memory) => new ThreadMetrics(memory)) };
}

/** `name{a="b"} value` of all samples that are not 0. */
function linesOf(metrics: readonly Metric[], name: string): string[] {
  const lines = metricsText(metrics.filter((metric) => metric.name === name)).split('\n');
  return lines.filter((line) => line !== '' && !line.startsWith('#') && !line.endsWith(' 0'));
}

test('answers are counted by zone, type and what they say, over all threads', () => {
  const { memories, metrics } = threads(2);
  const [one, other] = metrics;
  one!.answered(0, 1, OUTCOME.noerror, false);
  other!.answered(0, 1, OUTCOME.noerror, false);
  one!.answered(0, 16, OUTCOME.nxdomain, false);
  one!.answered(0, 65, OUTCOME.nodata, false);
  one!.answered(0, 0xfffe, OUTCOME.nodata, false);
  one!.answered(-1, 1, OUTCOME.refused, false);
  one!.answered(7, 1, OUTCOME.slipped, true);
  const all = metricsOf({ memories, zones });
  assert.deepEqual(linesOf(all, 'atmos_dns_answers_total'), [
    `atmos_dns_answers_total{zone="${apex}",type="A",answer="noerror"} 2`,
    `atmos_dns_answers_total{zone="${apex}",type="TXT",answer="nxdomain"} 1`,
    `atmos_dns_answers_total{zone="${apex}",type="other",answer="nodata"} 2`,
    'atmos_dns_answers_total{zone="",type="A",answer="refused"} 1',
    'atmos_dns_answers_total{zone="",type="A",answer="slipped"} 1',
  ]);
  assert.deepEqual(linesOf(all, 'atmos_dns_truncated_total'), ['atmos_dns_truncated_total 1']);
});

test('drops, sockets, limits and cookies each have their reasons', () => {
  const { memories, metrics } = threads(1);
  const [one] = metrics;
  one!.add(SOCKET.udpQueries, 64);
  one!.dropped(DROP.limited);
  one!.access(ACCESS.limitedDrop);
  one!.access(ACCESS.clientQuota);
  one!.access(ACCESS.cookieValid);
  one!.logLost();
  const all = metricsOf({ memories, zones, tcpConnections: 2 });
  const lines = (name: string) => linesOf(all, name);
  assert.deepEqual(lines('atmos_dns_queries_total'), ['atmos_dns_queries_total{transport="udp"} 64']);
  assert.deepEqual(lines('atmos_dns_dropped_total'), ['atmos_dns_dropped_total{reason="limited"} 1']);
  assert.deepEqual(lines('atmos_dns_rate_limited_total'), ['atmos_dns_rate_limited_total{action="drop"} 1']);
  assert.deepEqual(lines('atmos_dns_access_denied_total'), [
    'atmos_dns_access_denied_total{reason="client_quota"} 1',
  ]);
  assert.deepEqual(lines('atmos_dns_cookies_total'), ['atmos_dns_cookies_total{cookie="valid"} 1']);
  assert.deepEqual(lines('atmos_dns_query_log_total'), ['atmos_dns_query_log_total{fate="lost"} 1']);
  assert.deepEqual(lines('atmos_dns_tcp_connections'), ['atmos_dns_tcp_connections 2']);
  assert.deepEqual(lines('atmos_dns_zone_entries'), [`atmos_dns_zone_entries{zone="${apex}"} 3`]);
  assert.deepEqual(lines('atmos_dns_zone_serial'), [`atmos_dns_zone_serial{zone="${apex}"} 2026010101`]);
});

test('the time of one answer in 64 is in the histogram, whose buckets include the smaller ones', () => {
  const { memories, metrics } = threads(1);
  let timed = 0;
  for (let query = 0; query < 640; query++) {
    const started = metrics[0]!.startTiming();
    if (started === 0) continue;
    timed += 1;
    // As if it had begun 3 ms ago.
    metrics[0]!.timed(started - 3);
  }
  assert.equal(timed, 10);
  const histogram = metricsOf({ memories, zones }).find(({ kind }) => kind === 'histogram')!;
  const values = new Map(histogram.samples.map(({ name, labels, value }) => [labels.le ?? name, value]));
  assert.equal(values.get('0.001'), 0);
  assert.equal(values.get('+Inf'), 10);
  assert.equal(values.get('atmos_dns_answer_seconds_count'), 10);
  assert.ok(values.get('atmos_dns_answer_seconds_sum')! >= 0.03);
  const buckets = histogram.samples.filter(({ labels }) => labels.le !== undefined).map(({ value }) => value);
  assert.deepEqual(
    buckets,
    buckets.toSorted((a, b) => a - b),
  );
});

test('subscribers stand there by name, and labels cannot break out of their quotes', () => {
  const { memories } = threads(1);
  const subscribers = [{ apex, name: 'a "reef"\\\n', queriesToday: 5 }];
  const lines = linesOf(metricsOf({ memories, zones, subscribers }), 'atmos_dns_subscriber_queries_today');
  assert.deepEqual(lines, [
    `atmos_dns_subscriber_queries_today{zone="${apex}",subscriber="a \\"reef\\"\\\\\\n"} 5`,
  ]);
});
