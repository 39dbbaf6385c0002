import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { metricsOf, metricsText, newMetricsMemory } from '../../dnsbl/metrics.ts';
import { Metrics } from '../../node/metrics.ts';
import { readExposition } from '../exposition.ts';

async function reader(t: TestContext, metrics: Metrics) {
  const server = await metrics.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  return (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
}

test('what was counted is read as Prometheus wants it, each time as it stands then', async (t) => {
  const metrics = new Metrics();
  metrics.count('mail_refused', 'who "they" are\n');
  const read = await reader(t, metrics);
  metrics.count('mail_refused');
  const first = await (await read('/metrics')).text();
  assert.match(first, /^# TYPE atmos_mail_refused_total counter$/m);
  assert.match(first, /^atmos_mail_refused_total\{reason="who \\"they\\" are\\n"\} 1$/m);
  assert.match(first, /^atmos_mail_refused_total\{reason=""\} 1$/m);
  assert.match(first, /^process_cpu_seconds_total /m);
  metrics.count('mail_refused');
  assert.match(await (await read('/metrics')).text(), /^atmos_mail_refused_total\{reason=""\} 2$/m);
  assert.equal((await read('/elsewhere')).status, 404);
});

test('reasons from outside make no more than 200 series and one for all others', async (t) => {
  const metrics = new Metrics();
  for (let n = 0; n < 250; n++) metrics.count('odd', `r${n}`);
  metrics.count('odd', 'r3');
  const read = await reader(t, metrics);
  const lines = (await (await read('/metrics')).text()).match(/^atmos_odd_total\{.*$/gm)!;
  assert.equal(lines.length, 201);
  assert.ok(lines.includes('atmos_odd_total{reason="other"} 50'));
  assert.ok(lines.includes('atmos_odd_total{reason="r3"} 2'));
});

test('what others count stands in the same exposition, and a family that comes twice would be seen', async (t) => {
  const metrics = new Metrics();
  metrics.count('mail_refused', 'x');
  const more = () =>
    metricsText(
      metricsOf({ memories: [newMetricsMemory(1)], zones: [{ apex: 'a.test', entries: 1, serial: 2 }] }),
    );
  const server = await metrics.listen({ host: '127.0.0.1', port: 0 }, more);
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const values = readExposition(text);
  assert.equal(values.get('atmos_mail_refused_total{reason="x"}'), 1);
  assert.equal(values.get('atmos_dns_zone_entries{zone="a.test"}'), 1);
  assert.throws(() => readExposition(text + more()), /comes twice|explained twice/);
  assert.throws(() => readExposition(`${text}atmos_other_total 1\n`), /stands in/);
  assert.throws(() => readExposition(`${text}{}\n`), /no sample/);
});
