import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import { ZoneSerial } from '../../appview/listing/zone-serial.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { Zone } from '../../dnsbl/zone.ts';
import { counters, june, memberDid, memoryDatabases, quiet } from './labels-fixtures.ts';

const listing = (n: number): Listing => ({
  ...{ name: `m${n}.test`, list: 'vouched', kind: 4, trust: 1, mailTypes: ['transaction'] },
  ...{ coverSubdomains: false, did: memberDid, vouchers: [], url: 'https://harbor.test/listing', seq: n },
});

/** Each run() is one life of the program over the same ledger.db. */
function openWorld() {
  const { ledgerDb: db } = memoryDatabases();
  const counted = counters();
  const clock = { now: june };
  const run = () => {
    const serial = new ZoneSerial({ db, log: quiet, count: counted.count });
    return new Zone({
      ...{ apex: 'list.test', nameservers: ['ns.harbor.test'], hostmaster: 'admin.harbor.test' },
      ...{ now: () => clock.now, serial: serial.last, onSerial: (next: number) => serial.keep(next) },
    });
  };
  return { db, counted, clock, run };
}

test('after a burst of changes and a restart at once, the serial goes on', () => {
  const { run, clock } = openWorld();
  const zone = run();
  for (let n = 0; n < 500; n++) zone.apply(listing(n));
  clock.now += 2_000;
  const before = zone.serial;
  assert.ok(before > clock.now / 1000, 'ahead of the clock');
  const again = run();
  again.replace([]);
  assert.ok(again.serial > before, `${before} → ${again.serial}`);
});

test('a clock that was set back does not set the serial back', () => {
  const { run, clock } = openWorld();
  const before = run().serial;
  clock.now -= 86_400_000;
  const zone = run();
  zone.replace([]);
  assert.ok(zone.serial > before);
});

test('hundreds of changes cost a few commits', () => {
  const { run, db } = openWorld();
  db.exec(`
    CREATE TEMP TABLE writes (n);
    CREATE TEMP TRIGGER each AFTER INSERT ON zone_serial BEGIN INSERT INTO writes VALUES (1); END`);
  const zone = run();
  for (let n = 0; n < 500; n++) zone.apply(listing(n));
  const { writes } = db.prepare('SELECT count(*) AS writes FROM writes').get() as { writes: number };
  assert.ok(writes > 0 && writes < 5, `${writes} writes`);
});

test('a full disk does not keep a change out of the zone, damage does stop us', () => {
  const { run, db, counted } = openWorld();
  db.exec(
    "CREATE TEMP TRIGGER full BEFORE INSERT ON zone_serial BEGIN SELECT RAISE(ABORT, 'disk full'); END",
  );
  assert.equal(run().apply(listing(1)), 'changed');
  assert.ok(counted.of('zone_serial_not_kept') > 0);
  const damaged = { prepare: () => ({ get: () => undefined, run: fail }) };
  const serial = new ZoneSerial({ db: damaged as never, log: quiet, count: counted.count });
  assert.throws(() => serial.keep(1), CorruptState);
});

function fail(): never {
  throw new CorruptState('ledger.db is damaged');
}
