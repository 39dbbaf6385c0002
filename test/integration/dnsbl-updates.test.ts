/**
 * Changes and whole reloads under queries: none is lost, none is answered wrong, and each change is in the
 * first answer behind it. The sockets, threads and tables are the real ones; a thread of its own asks.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { pino } from 'pino';
import type { Listing } from '../../dnsbl/listing.ts';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import { TableBuilder } from '../../dnsbl/table/builder.ts';
import { addressOf, askDns } from '../ask-dns.ts';
import { needsNativeDns } from '../native-dns.ts';
import { apex, emptyZone, vouched } from '../unit/dnsbl-fixtures.ts';
import type { Asked, Asking } from './dnsbl-asking-thread.ts';

const stable = Array.from({ length: 50 }, (_, index) => vouched({ name: `member-${index}.test` }));
const moving = (trust: 1 | 2) => vouched({ name: 'moving.test' }, { trust });
const goes = vouched({ name: 'goes.test' });
const cover = (covers: boolean) => vouched({ name: 'wide.test' }, { kind: 4, coverSubdomains: covers });

/** All that may be said of each name at any time. */
const names: Asking['names'] = [
  ...stable.map(({ name }): Asking['names'][number] => [`${name}.dom.${apex}`, ['127.0.3.1']]),
  [`moving.test.dom.${apex}`, ['127.0.3.1', '127.0.3.2']],
  [`goes.test.dom.${apex}`, ['127.0.3.1', 'NXDOMAIN']],
  [`a.wide.test.dom.${apex}`, ['127.0.4.1', 'NXDOMAIN']],
  [`wide.test.dom.${apex}`, ['127.0.4.1']],
  [`2.0.0.127.ip.${apex}`, ['127.0.0.2']],
  [`1.0.0.127.ip.${apex}`, ['NXDOMAIN']],
];

async function running(t: TestContext, options: Partial<DnsServerOptions>) {
  const zone = emptyZone();
  zone.replace([...stable, moving(1), cover(true)]);
  const log = pino({ enabled: false });
  const server = new DnsServer({ zones: [zone], listen: { host: '127.0.0.1', port: 0 }, log, ...options });
  const [at] = await server.start();
  t.after(() => server.stop());
  const stop = new SharedArrayBuffer(4);
  const workerData: Asking = { at: at!, names, stop };
  const asking = new Worker(new URL('dnsbl-asking-thread.ts', import.meta.url), { workerData });
  t.after(() => asking.terminate());
  await once(asking, 'message');
  const end = async (): Promise<Asked> => {
    const ended = once(asking, 'message');
    Atomics.store(new Int32Array(stop), 0, 1);
    return (await ended)[0];
  };
  return { zone, at: at!, end };
}

const kinds: [sockets: 'dgram' | 'native', workers: number, skip: string | false][] = [
  ['dgram', 2, false],
  ['native', 2, needsNativeDns()],
];
for (const [sockets, workers, skip] of kinds) {
  test(`${sockets}: single changes under queries lose none, and each is in the first answer behind it`, {
    skip,
  }, async (t) => {
    const { zone, at, end } = await running(t, { sockets, workers });
    for (let turn = 0; turn < 300; turn++) {
      const trust = turn % 2 === 0 ? 2 : 1;
      assert.equal(zone.apply(moving(trust)), 'changed');
      zone.apply({ ...goes, removed: turn % 2 === 1 });
      zone.apply(cover(turn % 2 === 1));
      if (turn % 10 >= 2) {
        await nextTurn();
        continue;
      }
      assert.equal(await addressOf(at, `moving.test.dom.${apex}`), `127.0.3.${trust}`);
      const there = turn % 2 === 0 ? '127.0.3.1' : 'NXDOMAIN';
      assert.equal(await addressOf(at, `goes.test.dom.${apex}`), there);
    }
    checkAll(await end());
  });

  test(`${sockets}: whole reloads under queries lose none, and each is in the first answer behind it`, {
    skip,
  }, async (t) => {
    const { zone, at, end } = await running(t, { sockets, workers });
    const serials: number[] = [];
    for (let turn = 0; turn < 12; turn++) {
      const trust = turn % 2 === 0 ? 2 : 1;
      const listings = [...stable, moving(trust), cover(turn % 3 > 0), ...many(turn * 500)];
      if (turn % 3 === 2) zone.replace(listings);
      else zone.adopt(built(listings));
      assert.equal(await addressOf(at, `moving.test.dom.${apex}`), `127.0.3.${trust}`);
      serials.push(await serialOf(at));
    }
    assert.deepEqual(
      serials,
      [...new Set(serials)].sort((a, b) => a - b),
      'the serial only grows',
    );
    checkAll(await end());
  });
}

function checkAll({ asked, answered, wrong, slowestMs }: Asked): void {
  console.log(`${asked} asked meanwhile, ${answered} answered, the slowest after ${slowestMs.toFixed(1)} ms`);
  assert.deepEqual(wrong, []);
  assert.ok(asked > 200, `${asked} asked`);
  assert.equal(answered, asked);
}

function built(listings: readonly Listing[]) {
  const builder = new TableBuilder({ apex });
  for (const listing of listings) assert.ok(builder.add(listing));
  return builder.finish();
}

function many(count: number): Listing[] {
  return Array.from({ length: count }, (_, index) =>
    vouched(
      index % 2 === 0 ? { name: `other-${index}.test` } : { address: `10.0.${index >> 8}.${index & 255}` },
    ),
  );
}

async function serialOf(at: { host: string; port: number }): Promise<number> {
  const [first] = (await askDns(at, apex, 'SOA')).answers;
  assert.ok(first?.type === 'SOA');
  return first.data.serial!;
}
