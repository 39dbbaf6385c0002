import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Attestations } from '../../appview/firehose/attestations.ts';
import { FirehoseIndexer } from '../../appview/firehose/indexer.ts';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { counters, memoryDatabases, quiet } from './labels-fixtures.ts';

function indexer(source: string, allowLoopback: boolean, loopbackOnly = false): FirehoseIndexer {
  const shared = { log: quiet, count: counters().count, now: Date.now };
  const fetch = guardedFetch({ allowLoopback, loopbackOnly: false });
  return new FirehoseIndexer({
    ...{ ...shared, sources: [source], allowLoopback, loopbackOnly },
    attestations: new Attestations({ ...shared, db: memoryDatabases().db }),
    identities: new Identities({ plcUrl: 'https://plc.test', fetch, now: Date.now }),
  });
}

const sources: [string, 'always' | 'on loopback' | 'never'][] = [
  ['wss://relay.test', 'always'],
  ['wss://relay.test:8443/', 'always'],
  ['ws://localhost:2583', 'on loopback'],
  ['ws://127.0.0.1:2583', 'on loopback'],
  ['ws://[::1]:2583', 'on loopback'],
  ['wss://127.0.0.1:2583', 'on loopback'],
  ['ws://relay.test', 'never'],
  ['https://relay.test', 'never'],
  ['relay.test', 'never'],
];

for (const [source, when] of sources) {
  test(`the source ${source} is read ${when}`, () => {
    for (const allowLoopback of [true, false]) {
      const isRead = when === 'always' || (when === 'on loopback' && allowLoopback);
      if (isRead) indexer(source, allowLoopback);
      else assert.throws(() => indexer(source, allowLoopback), /firehose source/);
    }
  });
}

test('in the sandbox no source elsewhere is read', () => {
  indexer('ws://localhost:2583', true, true);
  assert.throws(() => indexer('wss://relay.test', true, true), /firehose source/);
});

test('an indexer stops at once while no source answers', async () => {
  const idle = indexer('ws://127.0.0.1:1', true);
  idle.start();
  await idle.stop();
});
