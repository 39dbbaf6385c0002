import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { byFrame, createServer, ErrorFrame, MessageFrame } from '@atproto/xrpc-server';
import express from 'express';
import { WebSocket } from 'ws';
import { LabelStore } from '../../appview/labels/store.ts';
import { Ledger } from '../../appview/listing/ledger.ts';
import { Listings } from '../../appview/listing/listings.ts';
import { defaultPolicy } from '../../appview/listing/policy.ts';
import { registerListingGet } from '../../appview/xrpc/listing-get.ts';
import { registerListingSubscribe } from '../../appview/xrpc/listing-subscribe.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { com, type email } from '../../lexicons/index.ts';
import { Commits, iso, issuer, june, memberDid, memoryDatabases, quiet, uriOf } from './labels-fixtures.ts';

const harbor = await issuer('did:web:harbor.example');

/** Either the output of the lexicon as JSON, or an error. */
type Answer = Omit<email.atmos.listing.get.$OutputBody, 'votes'> & {
  votes: { issuer: string; root: string; firstSeen: string; label: { sig: { $bytes: string } } }[];
  error?: string;
};

async function serve() {
  const { db, ledgerDb } = memoryDatabases();
  const now = () => june;
  const count = () => undefined;
  const ledger = new Ledger({ db: ledgerDb, now });
  const commits = new Commits(db);
  const labels = new LabelStore({ db, now, count, witness: (applied) => ledger.observe(applied) });
  const listings = new Listings({
    ...{
      db,
      labels,
      ledger,
      attestations: commits.index,
      log: quiet,
      count,
      now,
      publicUrl: 'https://harbor.example',
    },
    policy: { ...defaultPolicy, roots: [harbor.did] },
  });
  listings.start();
  const xrpc = createServer();
  registerListingGet(xrpc, listings);
  registerListingSubscribe(xrpc, listings);
  const http = express().use(xrpc.router).listen(0, '127.0.0.1');
  await once(http, 'listening');
  const { port } = http.address() as AddressInfo;
  const sockets = new Set<WebSocket>();
  after(() => {
    for (const socket of sockets) socket.terminate();
    listings.stop();
    http.close();
  });
  const list = async (domain: string) => {
    commits.put(domain);
    labels.receive(harbor.did, (labels.cursor(harbor.did) ?? 0) + 1, [
      await harbor.sign({ uri: uriOf(domain), cts: iso(june - 1000) }),
    ]);
  };
  const get = async (domain: string) => {
    const query = new URLSearchParams({ domain });
    const answer = await fetch(`http://127.0.0.1:${port}/xrpc/email.atmos.listing.get?${query}`);
    return { status: answer.status, body: (await answer.json()) as Answer };
  };
  const subscribe = (cursor?: number) => {
    const query = cursor === undefined ? '' : `?cursor=${cursor}`;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/xrpc/email.atmos.listing.subscribe${query}`);
    sockets.add(socket);
    return { socket, frames: byFrame(socket) };
  };
  return { list, get, subscribe, listings, commits };
}

type Frames = ReturnType<typeof byFrame>;

type Body = { t?: string; name?: string; seq: number; listings: Listing[] };

/** The next message but the one which says that all has been sent. */
async function nextBody(frames: Frames): Promise<Body> {
  const body = await nextMessage(frames);
  return body.name === 'UpToDate' ? nextMessage(frames) : body;
}

async function nextMessage(frames: Frames): Promise<Body> {
  const { value } = await frames.next();
  assert.ok(value instanceof MessageFrame);
  return { t: value.type, ...(value.body as object) } as Body;
}

const names = (body: Body) => body.listings.map(({ name, removed }) => (removed ? `-${name}` : name));

test('listing.get answers with the listing, the record and the signed votes', async () => {
  const { list, get } = await serve();
  await list('reef.test');
  for (const asked of ['reef.test', 'REEF.test.', 'ＲＥＥＦ.test']) {
    const { status, body } = await get(asked);
    assert.equal(status, 200, asked);
    assert.equal(body.listing.name, 'reef.test');
    assert.equal(body.listing.url, 'https://harbor.example/listing/reef.test');
    assert.equal(body.attestation.record.domain, 'reef.test');
    assert.equal(body.attestation.uri, uriOf('reef.test'));
    const [vote] = body.votes;
    assert.ok(vote);
    assert.deepEqual([vote.issuer, vote.root, vote.firstSeen], [harbor.did, harbor.did, iso(june)]);
    // The signature travels, so that the asker can verify the vote for itself.
    assert.match(vote.label.sig.$bytes, /^[A-Za-z0-9+/]{86}$/);
    assert.ok(com.atproto.label.defs.label.matches({ ...vote.label, sig: new Uint8Array(64) }));
  }
});

test('listing.get says no more of what is not listed than that', async () => {
  const { commits, get } = await serve();
  commits.put('reef.test');
  for (const domain of ['reef.test', 'nobody.test']) {
    const { status, body } = await get(domain);
    assert.equal(status, 400);
    assert.deepEqual(body, { error: 'NotListed', message: `${domain} is not vouched for now.` });
  }
});

test('listing.get refuses what is no domain name', async () => {
  const { get } = await serve();
  for (const domain of [
    '.',
    'a..b',
    'a b',
    'reef.test/..',
    `${'a'.repeat(64)}.test`,
    '<script>',
    'reef.test:25',
    'ＲＥＥＦ.test/x',
  ]) {
    const { status, body } = await get(domain);
    assert.deepEqual([status, body.error], [400, 'InvalidDomain'], domain);
  }
});

test('listing.subscribe with cursor 0 brings what is listed now, then each change', async () => {
  const { list, subscribe, commits, listings } = await serve();
  await list('reef.test');
  await list('gone.test');
  commits.remove('gone.test');
  const { frames } = subscribe(0);
  const first = await nextBody(frames);
  assert.equal(first.t, '#listings');
  assert.deepEqual(names(first), ['reef.test']);
  assert.equal(first.listings[0]?.did, memberDid);
  assert.equal(first.seq, listings.last);

  await list('orchard.test');
  assert.deepEqual(names(await nextBody(frames)), ['orchard.test']);
  commits.remove('reef.test');
  assert.deepEqual(names(await nextBody(frames)), ['-reef.test']);
});

test('listing.subscribe says once when all has been sent, also where there is nothing', async () => {
  const { list, subscribe } = await serve();
  const { frames } = subscribe(0);
  assert.equal((await nextMessage(frames)).name, 'UpToDate');
  await list('reef.test');
  assert.deepEqual(names(await nextMessage(frames)), ['reef.test']);
  await list('orchard.test');
  assert.deepEqual(names(await nextMessage(frames)), ['orchard.test']);
  const { frames: later } = subscribe(0);
  assert.deepEqual(names(await nextMessage(later)), ['reef.test', 'orchard.test']);
  assert.equal((await nextMessage(later)).name, 'UpToDate');
});

test('listing.subscribe resumes behind a cursor, removals included', async () => {
  const { list, subscribe, commits, listings } = await serve();
  await list('reef.test');
  const cursor = listings.last;
  await list('orchard.test');
  commits.remove('reef.test');
  const { frames } = subscribe(cursor);
  assert.deepEqual(names(await nextBody(frames)), ['orchard.test', '-reef.test']);
});

test('listing.subscribe without a cursor is live only', async () => {
  const { list, subscribe } = await serve();
  await list('reef.test');
  const { socket, frames } = subscribe();
  await once(socket, 'open');
  // The handler reads where the feed stands as soon as it runs; this request comes behind it.
  socket.ping();
  await once(socket, 'pong');
  await list('orchard.test');
  assert.deepEqual(names(await nextBody(frames)), ['orchard.test']);
});

test('a cursor ahead of the feed is FutureCursor, and the stream ends', async () => {
  const { subscribe, listings } = await serve();
  const { frames } = subscribe(listings.last + 1);
  const { value } = await frames.next();
  assert.ok(value instanceof ErrorFrame);
  assert.equal(value.code, 'FutureCursor');
  assert.equal((await frames.next()).done, true);
});

test('a cursor of an AppView that was thrown away brings OutdatedCursor, then everything', async () => {
  const { list, subscribe, listings } = await serve();
  await list('reef.test');
  const { frames } = subscribe(listings.epoch - 1);
  assert.deepEqual(await nextBody(frames).then(({ t, name }) => [t, name]), ['#info', 'OutdatedCursor']);
  assert.deepEqual(names(await nextBody(frames)), ['reef.test']);
});

test('a follower that leaves is forgotten', async () => {
  const { list, subscribe, listings } = await serve();
  const followers = new Set<unknown>();
  const follow = listings.onChange.bind(listings);
  const left = Promise.withResolvers<void>();
  listings.onChange = (callback) => {
    const end = follow(callback);
    followers.add(callback);
    return () => {
      end();
      followers.delete(callback);
      if (followers.size === 0) left.resolve();
    };
  };
  await list('reef.test');
  const { socket, frames } = subscribe(0);
  await nextBody(frames);
  assert.equal(followers.size, 1);
  socket.close();
  await left.promise;
});
