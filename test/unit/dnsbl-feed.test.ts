import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs, { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, mock, test } from 'node:test';
import { encode } from '@atproto/lex-cbor';
import { pino } from 'pino';
import { WebSocketServer } from 'ws';
import { Feed } from '../../dnsbl/feed/feed.ts';
import { feedUrl } from '../../dnsbl/feed/feed-url.ts';
import { decodeFeedMessage } from '../../dnsbl/feed/frame.ts';
import { FeedState } from '../../dnsbl/feed/state.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { SerialFile } from '../../dnsbl/serial-file.ts';
import { Fuzz } from '../fuzz/random.ts';
import { AppView } from './dnsbl-appview.ts';
import { apex, emptyZone, said, startMs, vouched } from './dnsbl-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-feed-'));
after(() => rmSync(folder, { recursive: true }));

const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa';

/** A feed, its zone, and its log to wait for. */
function following(
  from: string,
  {
    stateDir = mkdtempSync(join(folder, 'state-')),
    now = () => startMs,
    state = new FeedState(stateDir, from),
    lastSaveMs = 4_000,
  } = {},
) {
  const counts: string[] = [];
  const said: string[] = [];
  let waiting: { text: string; resolve: () => void }[] = [];
  const log = pino({
    hooks: {
      logMethod(args) {
        const text = String(args.at(-1));
        said.push(text);
        for (const { resolve } of waiting.filter((one) => text.includes(one.text))) resolve();
        waiting = waiting.filter((one) => !text.includes(one.text));
      },
    },
  });
  const zone = emptyZone({ now });
  const feed = new Feed({
    ...{
      from,
      zone,
      log,
      now,
      state,
      lastSaveMs,
      firstRetryMs: 20,
      saveEveryMs: 3_600_000,
    },
    count: (what, reason = '') => counts.push(`${what} ${reason}`.trim()),
  });
  const logged = (text: string) =>
    new Promise<void>((resolve) => {
      waiting.push({ text, resolve });
    });
  const changed = () =>
    new Promise<void>((resolve) => {
      zone.onChange = () => resolve();
    });
  return { feed, zone, stateDir, counts, said, logged, changed };
}

test('a feed brings everything, then each change, and is ready when it has all', async () => {
  const appview = new AppView();
  for (let n = 0; n < 450; n++) appview.list(`n${n}.test`);
  const { feed, zone, changed } = following(await appview.start());
  await feed.start();
  await feed.ready;
  assert.equal(zone.size, 450);
  const change = changed();
  appview.list('reef.test', { trust: 2 });
  await change;
  assert.equal(said(zone, 'reef.test.dom'), '127.0.3.2');
  const removal = changed();
  appview.list('reef.test', { removed: true });
  await removal;
  assert.equal(said(zone, 'reef.test.dom'), 'NXDOMAIN');
  assert.deepEqual([feed.status().isCurrent, feed.status().ageMs], [true, 0]);
  await feed.stop();
  await appview.stop();
});

test('while the AppView is gone the zone answers and says its age; behind its cursor the feed goes on', async () => {
  const appview = new AppView();
  appview.list('reef.test');
  let now = startMs;
  const { feed, zone, logged, changed } = following(await appview.start(), { now: () => now });
  await feed.start();
  await feed.ready;
  const gone = logged('interrupted');
  await appview.stop();
  await gone;
  now += 90_000;
  assert.equal(said(zone, 'reef.test.dom'), '127.0.3.1');
  assert.deepEqual([feed.status().isCurrent, feed.status().ageMs], [false, 90_000]);
  appview.list('orchard.test');
  const change = changed();
  const current = logged('is current');
  await appview.start();
  await change;
  await current;
  assert.deepEqual([feed.status().isCurrent, feed.status().ageMs], [true, 0]);
  assert.deepEqual([appview.cursors[0], appview.cursors.at(-1)], ['0', '1001']);
  assert.equal(zone.size, 2);
  await feed.stop();
  await appview.stop();
});

test('a restart without the AppView answers from the saved state, as old as it is', async () => {
  const appview = new AppView();
  const blocked = { list: 'blocked', reason: 'spam' } as const;
  appview.list('reef.test', { coverSubdomains: true });
  appview.list('bad.test', blocked);
  const first = following(await appview.start());
  await first.feed.start();
  await first.feed.ready;
  await first.feed.stop();
  const from = `http://127.0.0.1:${appview.port}`;
  await appview.stop();

  const later = startMs + 7_200_000;
  const second = following(from, { stateDir: first.stateDir, now: () => later });
  await second.feed.start();
  await second.feed.ready;
  assert.equal(said(second.zone, 'a.reef.test.dom'), '127.0.3.1');
  assert.equal(said(second.zone, 'bad.test.block'), '127.0.0.2');
  assert.deepEqual([second.feed.status().ageMs, second.feed.status().cursor], [7_200_000, 1002]);
  await second.feed.stop();
  // Saving again what did not change keeps its age.
  const third = following(from, { stateDir: first.stateDir, now: () => later + 1000 });
  await third.feed.start();
  assert.equal(third.feed.status().ageMs, 7_201_000);
  await third.feed.stop();
  assert.equal(readdirSync(first.stateDir).length, 2);
});

test('an AppView that was rebuilt, or set back, is read anew; the old state answers until then', async () => {
  const appview = new AppView();
  appview.list('old.test');
  appview.list('both.test');
  const { feed, zone, logged, counts } = following(await appview.start());
  await feed.start();
  await feed.ready;
  for (const [epoch, name] of [
    [5000, 'rebuilt.test'],
    [200, 'set-back.test'],
  ] as const) {
    const gone = logged('interrupted');
    await appview.stop();
    await gone;
    appview.rows = [];
    appview.epoch = epoch;
    appview.list('both.test');
    appview.list(name);
    const anew = logged('beginning anew');
    const current = logged('is current');
    const seen: boolean[] = [];
    zone.onSwap = () => seen.push(zone.size > 0);
    await appview.start();
    await anew;
    await current;
    const names = [...zone.listings()].map((listing) => listing.name);
    assert.deepEqual(names.sort(), ['both.test', name]);
    assert.deepEqual(seen, [true]);
  }
  assert.equal(counts.includes('dns_feed_dropped out_of_order'), false);
  await feed.stop();
  await appview.stop();
});

test('state that is damaged, or of another AppView, is refused loudly', async () => {
  const appview = new AppView();
  appview.list('reef.test');
  const from = await appview.start();
  const { feed, stateDir } = following(from);
  await feed.start();
  await feed.ready;
  await feed.stop();
  await appview.stop();
  const load = (where = stateDir, other = from) => new FeedState(where, other).load(apex);
  assert.equal((await load())?.loaded.entries, 1);
  await assert.rejects(load(stateDir, 'https://other.test'), /is the state of .*give another --state/);

  const manifest = join(stateDir, 'feed.json');
  const text = readFileSync(manifest, 'utf8');
  const zoneFolder = join(stateDir, (JSON.parse(text) as { state: { folder: string } }).state.folder);
  const file = join(zoneFolder, `${apex}.dom.dnset`);
  const lines = readFileSync(file, 'utf8');
  writeFileSync(file, lines.replace('127.0.3.1', '127.0.3.3'));
  await assert.rejects(load(), /feed\.json is damaged \(.*dom\.dnset is damaged: its SHA-256.*begin anew/);
  rmSync(file);
  await assert.rejects(load(), /damaged \(ENOENT/);
  for (const bad of [
    '',
    '{',
    '[]',
    text.slice(0, -20),
    text.replace('zone-', '../zone-'),
    text.replace('1001', '1002'),
  ]) {
    writeFileSync(manifest, bad);
    await assert.rejects(load(), /feed\.json is damaged \(it is not what was written\)/);
  }
  // Nothing of it is answered: the feed does not start at all.
  const { feed: again } = following(from, { stateDir });
  await assert.rejects(again.start(), /Remove its folder to begin anew/);
});

test('an insecure way is refused unless it is loopback or told', () => {
  for (const from of [
    'https://a.test',
    'wss://a.test',
    'http://127.0.0.1:8080',
    'http://localhost',
    'http://[::1]:1',
  ]) {
    assert.equal(feedUrl(from, 7, false).searchParams.get('cursor'), '7', from);
  }
  assert.equal(
    feedUrl('http://a.test', 0, true).href,
    'ws://a.test/xrpc/email.atmos.listing.subscribe?cursor=0',
  );
  for (const from of [
    'http://a.test',
    'ws://192.0.2.1',
    'http://localhost.evil.test',
    'ftp://a.test',
    'a.test',
  ]) {
    assert.throws(() => feedUrl(from, 0, false), /is not encrypted|is no/, from);
  }
});

function frameOf(body: object, header: object = { op: 1, t: '#listings' }): Buffer {
  return Buffer.concat([encode(header as never), encode(body as never)]);
}

test('a message that breaks the lexicon costs its neighbours nothing', () => {
  const good = vouched({ name: 'reef.test' });
  const bad = [
    { ...good, did: 'not a did' },
    { ...good, trust: 4 },
    { ...good, list: 'praised' },
    { ...good, address: '192.0.2.1' },
    { ...good, name: undefined },
    { ...good, list: 'blocked', reason: 'two\nlines' },
    7,
  ].map((listing) => JSON.parse(JSON.stringify(listing)) as unknown);
  const message = decodeFeedMessage(frameOf({ seq: 9, listings: [...bad, good, ...bad] }));
  assert.deepEqual(message, { kind: 'listings', seq: 9, listings: [good], malformed: 14 });
  assert.deepEqual(decodeFeedMessage(frameOf({ name: 'X' }, { op: 1, t: '#info' })), {
    kind: 'info',
    name: 'X',
  });
  assert.deepEqual(decodeFeedMessage(frameOf({ error: 'E' }, { op: -1 })), { kind: 'error', name: 'E' });
  assert.deepEqual(decodeFeedMessage(frameOf({}, { op: 1, t: '#later' })), { kind: 'unknown' });
  for (const octets of ['', 'a0', 'a0a0', 'ff'.repeat(50)]) {
    assert.equal(decodeFeedMessage(Buffer.from(octets, 'hex')), undefined);
  }
});

test('no octets make the decoder throw, or let a listing through that breaks the lexicon', () => {
  const fuzz = new Fuzz('listing feed frames');
  const listing = vouched({ name: 'reef.test' }, { did });
  const whole = frameOf({ seq: 5, listings: [listing, vouched({ address: '192.0.2.1' })] });
  for (let rounds = fuzz.rounds(2_000); rounds > 0; rounds--) {
    const message = decodeFeedMessage(fuzz.mutate(whole));
    if (message?.kind !== 'listings') continue;
    for (const { did: who, kind, trust } of message.listings) {
      assert.match(who, /^did:/);
      assert.ok(kind >= 2 && kind <= 4 && trust >= 0 && trust <= 3);
    }
  }
});

test('a serial file continues behind what was handed out, and refuses what is none', () => {
  const path = join(folder, 'serial');
  const failures: unknown[] = [];
  const file = () =>
    new SerialFile(
      path,
      (error) => failures.push(error),
      () => startMs,
    );
  assert.equal(file().last, 0);
  const first = file();
  for (let serial = 1000; serial < 1600; serial++) first.keep(serial);
  const { last } = file();
  assert.ok(last >= 1599 && last < 1599 + 600, String(last));
  writeFileSync(path, 'what');
  assert.throws(file, /holds no serial/);
  const lost = new SerialFile(
    join(folder, 'nowhere', 'serial'),
    (error) => failures.push(error),
    () => startMs,
  );
  lost.keep(5);
  assert.equal(failures.length, 1);
});

test('an AppView that closes the connection is in the log like one that breaks it', async () => {
  const closing = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  closing.on('connection', (socket) => {
    socket.send(frameOf({ name: 'UpToDate' }, { op: 1, t: '#info' }), () => socket.close(1001));
  });
  await once(closing, 'listening');
  const { feed, said } = following(`http://127.0.0.1:${(closing.address() as AddressInfo).port}`);
  const again = once(closing, 'connection').then(() => once(closing, 'connection'));
  await feed.start();
  await again;
  assert.ok(said.some((text) => text.includes('interrupted')));
  await feed.stop();
  closing.close();
});

test('what is saved can be read again: dollars, and texts as long as they may be', async () => {
  const vouchers = Array.from({ length: 30 }, (_, n) => `did:web:cooperative-${n}.example`);
  const path = (length: number) => `https://h.test/${'x'.repeat(length)}/reef.test`;
  const shapes: Partial<Listing>[] = [
    { vouchers, url: `https://h.test/?q=${'$a'.repeat(7)}&n=reef.test` },
    { vouchers, list: 'blocked', reason: '$'.repeat(7) },
    { vouchers: [], url: `https://h.test/${'$'.repeat(3_900)}` },
    { vouchers: [], url: path(3_900) },
    { vouchers: [], url: path(4_010) },
  ];
  for (const shape of shapes) {
    const zone = emptyZone();
    assert.equal(zone.apply(vouched({ name: 'reef.test' }, shape)), 'changed');
    const stateDir = mkdtempSync(join(folder, 'state-'));
    await new FeedState(stateDir, 'https://a.test').save(zone, { cursor: 1, currentAtMs: 1 });
    const loaded = (await new FeedState(stateDir, 'https://a.test').load(apex))!.loaded;
    const again = emptyZone();
    again.adopt(loaded.table);
    const name = `reef.test.${shape.list === 'blocked' ? 'block' : 'dom'}`;
    assert.equal(said(again, name, 'TXT'), said(zone, name, 'TXT'));
  }
});

test('a state that feed.json names is never removed, though the disk fails behind it', async () => {
  const stateDir = mkdtempSync(join(folder, 'state-'));
  const state = new FeedState(stateDir, 'https://a.test');
  const zone = emptyZone();
  zone.apply(vouched({ name: 'reef.test' }));
  const handle = await open(stateDir, 'r');
  const proto = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const sync = proto.sync;
  let fails = true;
  const failing = mock.method(proto, 'sync', async function (this: FileHandle) {
    const isCommitted = readdirSync(stateDir).includes('feed.json');
    if (fails && isCommitted && (await this.stat()).isDirectory()) throw new Error('EIO');
    return sync.call(this);
  });
  const point = { cursor: 1, currentAtMs: 1 };
  const load = () => new FeedState(stateDir, 'https://a.test').load(apex);
  await assert.rejects(state.save(zone, point), /EIO/);
  assert.equal((await load())?.loaded.entries, 1);
  // Once more, of the same zone: nothing of the state in force is written anew.
  await assert.rejects(state.save(zone, point), /EIO/);
  assert.equal((await load())?.loaded.entries, 1);
  fails = false;
  zone.apply(vouched({ name: 'orchard.test' }));
  await state.save(zone, { ...point, cursor: 2 });
  failing.mock.restore();
  assert.equal((await load())?.loaded.entries, 2);
  assert.equal(readdirSync(stateDir).length, 2);
});

test('a last save that takes too long is given up', { timeout: 5_000 }, async () => {
  const appview = new AppView();
  appview.list('reef.test');
  const from = await appview.start();
  class Slow extends FeedState {
    override save(_zone: unknown, _point: unknown, signal?: AbortSignal): Promise<void> {
      return new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error));
      });
    }
  }
  const state = new Slow(mkdtempSync(join(folder, 'state-')), from);
  const { feed, counts } = following(from, { state, lastSaveMs: 10 });
  await feed.start();
  await feed.ready;
  await feed.stop();
  assert.ok(counts.includes('dns_feed_not_saved'));
  await appview.stop();
});

test('a serial file on a failing disk is tried again after half a minute, and told of as often', () => {
  const path = join(folder, 'failing');
  let now = startMs;
  let failures = 0;
  const onFailure = () => {
    failures += 1;
  };
  const file = new SerialFile(join(path, 'serial'), onFailure, () => now);
  for (let serial = 1000; serial < 2000; serial++) file.keep(serial);
  assert.equal(failures, 1);
  now += 30_000;
  file.keep(2000);
  assert.equal(failures, 2);
  mkdirSync(path);
  now += 30_000;
  const folders: boolean[] = [];
  const fsync = fs.fsyncSync;
  const watched = mock.method(fs, 'fsyncSync', (fd: number) => {
    folders.push(fs.fstatSync(fd).isDirectory());
    fsync(fd);
  });
  syncBuiltinESMExports();
  file.keep(2001);
  watched.mock.restore();
  syncBuiltinESMExports();
  assert.equal(folders.at(-1), true);
  assert.equal(failures, 2);
  assert.ok(new SerialFile(join(path, 'serial'), onFailure, () => now).last >= 2001);
});
