import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import type { AppView } from '../../appview/appview.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { checkConfig } from '../../node/config.ts';
import { startDns } from '../../node/listings.ts';
import { Stops } from '../../node/stopping.ts';
import { addressOf } from '../ask-dns.ts';
import { freePort } from '../free-port.ts';
import { vouched } from './dnsbl-fixtures.ts';

const log = pino({ enabled: false });

/** Listings that change whenever a page of them was read, as far as a zone asks for them. */
class BusyListings {
  readonly #rows: Listing[] = [];
  pages = 0;
  onPage: ((isLast: boolean) => void) | undefined;
  readonly #listeners = new Set<(listing: Listing) => void>();

  get rows() {
    return this.#rows.length;
  }

  since(seq: number, limit: number): Listing[] {
    this.pages += 1;
    const page = this.#rows.filter((row) => row.seq > seq).slice(0, limit);
    const isLast = page.length === 0;
    setImmediate(() => this.onPage?.(isLast));
    return page;
  }

  onChange(callback: (listing: Listing) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  put(name: string, rest: Partial<Listing> = {}): void {
    const row = vouched({ name }, { seq: (this.#rows.at(-1)?.seq ?? 1000) + 1, ...rest });
    const before = this.#rows.findIndex((other) => other.name === name);
    if (before >= 0) this.#rows.splice(before, 1);
    this.#rows.push(row);
    for (const listener of this.#listeners) listener(row);
  }
}

test('a zone is filled some at a time, and what changes meanwhile is in it', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'node-listings-'));
  const listings = new BusyListings();
  for (let n = 0; n < 2000; n++) listings.put(`n${n}.test`);
  listings.onPage = (isLast) => {
    if (isLast) listings.put('last.test');
    if (listings.pages > 3) return;
    listings.put('late.test', { trust: listings.pages as Listing['trust'] });
    listings.put('n0.test', { trust: 3 });
    listings.put('n1999.test', { removed: true });
  };
  const port = await freePort();
  const config = checkConfig(
    JSON.stringify({
      ...{ name: 'Harbor', domain: 'harbor.test', publicUrl: 'https://harbor.test', stateDir: folder },
      listen: { dns: `127.0.0.1:${port}` },
      dns: {
        ...{ apex: 'list.harbor.test', nameservers: ['ns1.harbor.test'], hostmaster: 'h@harbor.test' },
        workers: 0,
      },
    }),
    join(folder, 'atmos.jsonc'),
  );
  const stops = new Stops(log);
  t.after(async () => {
    await stops.run();
    rmSync(folder, { recursive: true });
  });
  const kept: number[] = [];
  const zoneSerial = { last: 4_000_000_000, keep: (serial: number) => kept.push(serial) };
  const counted: string[] = [];
  let turns = 0;
  let isStarted = false;
  void (async () => {
    for (; !isStarted; turns++) await nextTurn();
  })();
  const { zone } = await startDns(
    { config, stops, log, count: (what) => counted.push(what), now: Date.now },
    { listings, zoneSerial } as unknown as AppView,
  );
  isStarted = true;
  assert.ok(listings.pages > 4 && turns >= listings.pages - 1, `${turns} turns, ${listings.pages} pages`);
  assert.ok(zone.size >= 2000);
  assert.ok(zone.serial > 4_000_000_000 && kept.at(-1) === zone.serial);
  const ask = (name: string) => addressOf({ host: '127.0.0.1', port }, `${name}.dom.list.harbor.test`);
  assert.equal(await ask('n0.test'), '127.0.3.3');
  assert.equal(await ask('late.test'), '127.0.3.3');
  assert.equal(await ask('n1999.test'), 'NXDOMAIN');
  assert.equal(await ask('last.test'), '127.0.3.1');
  listings.put('later.test');
  assert.equal(await ask('later.test'), '127.0.3.1');
  listings.put('not a name');
  assert.deepEqual(counted, ['listings_unlistable']);
});
