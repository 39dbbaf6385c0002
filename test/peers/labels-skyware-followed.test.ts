/** A real @skyware/labeler, followed as a peer: its stream, its answers, and what happens when it loses its database. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { LabelerServer } from '@skyware/labeler';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { verifyLabel } from '../../appview/labels/codec.ts';
import { LabelConsumer } from '../../appview/labels/consumer.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { WsLabelSource } from '../../appview/labels/websocket.ts';
import { cids, counters, memoryDatabases, quiet, uriOf } from '../unit/labels-fixtures.ts';
import { temporaryFolder } from '../unit/spool-fixtures.ts';

const did = 'did:web:meadow.test';
const localOnly = { allowLoopback: true, loopbackOnly: true };
const [reef, kelp] = [uriOf('reef.test'), uriOf('kelp.test')];
const vote = { cid: cids[0], val: 'verified-mail-operator' };

async function start(t: TestContext, key: Secp256k1Keypair, file: string, port = 0) {
  const signingKey = Buffer.from(await key.export()).toString('hex');
  const server = new LabelerServer({ did, signingKey, dbPath: join(temporaryFolder(t), file) });
  await new Promise<void>((resolve, reject) => {
    server.start({ port, host: '127.0.0.1' }, (error) => (error ? reject(error) : resolve()));
  });
  let isOpen = true;
  const close = async () => {
    if (!isOpen) return;
    isOpen = false;
    server.app.server.closeAllConnections();
    const { connections } = server as unknown as { connections: Map<string, Set<{ terminate(): void }>> };
    for (const sockets of connections.values()) for (const socket of sockets) socket.terminate();
    await new Promise<void>((resolve) => server.close(resolve));
    server.db.close();
  };
  t.after(close);
  return { server, close, port: (server.app.server.address() as AddressInfo).port };
}

function follow(t: TestContext, key: Secp256k1Keypair, port: number, db = memoryDatabases().db) {
  const counted = counters();
  const { count } = counted;
  const store = new LabelStore({ db, now: Date.now, count });
  const endpoint = async () => `http://127.0.0.1:${port}`;
  const consumer = new LabelConsumer({
    ...{ src: did, store, log: quiet, count, now: Date.now, firstRetryMs: 5 },
    identities: { forget: () => undefined, resolve: async () => ({ labelKey: key.did() }) },
    source: new WsLabelSource({ endpoint, rules: localOnly, fetch: guardedFetch(localOnly), count }),
  });
  t.after(() => consumer.stop());
  consumer.start();
  return { db, store, consumer, counted };
}

test('its labels are read, negated, and read on after a restart between two frames', async (t) => {
  const key = await Secp256k1Keypair.create({ exportable: true });
  const { server, port } = await start(t, key, 'labels.db');
  await server.createLabel({ uri: reef, ...vote });
  const first = follow(t, key, port);
  await first.counted.reached('labels_accepted');
  const [stored] = first.store.current(reef);
  assert.equal(stored?.label.neg, false);
  assert.ok(verifyLabel(stored.label, key.did()));
  await first.consumer.stop();

  // Without cid: it negates whatever version the label stood on.
  await server.createLabel({ uri: reef, val: vote.val, neg: true });
  await server.createLabel({ uri: kelp, ...vote });
  const second = follow(t, key, port, first.db);
  await second.counted.reached('labels_accepted', 2);
  assert.deepEqual([second.store.current(reef).length, second.store.current(kelp).length], [0, 1]);
  assert.equal(second.counted.of('label_frames_dropped{replayed}'), 0);
});

test('what it serves is compared with what we hold: a lost label comes, one that it forgot goes', async (t) => {
  const key = await Secp256k1Keypair.create({ exportable: true });
  const { server, port } = await start(t, key, 'labels.db');
  for (let n = 0; n < 300; n++) await server.createLabel({ uri: uriOf(`d${n}.test`), ...vote });
  const { store, consumer, counted, db } = follow(t, key, port);
  await counted.reached('labels_accepted', 300);
  db.prepare('DELETE FROM label WHERE uri = ?').run(uriOf('d7.test'));
  // Made long before the walk, as far as we can tell.
  db.exec('UPDATE label SET received_at = received_at - 3600000, ordered_at = ordered_at - 3600000');
  await server.db.execute({ sql: 'DELETE FROM labels WHERE uri = ?', args: [uriOf('d8.test')] });
  store.states.reconcileAt(did, Date.now());
  await consumer.look();
  assert.equal(counted.of('label_reconciliations{complete}'), 1);
  assert.equal(store.current(uriOf('d7.test')).length, 1);
  assert.equal(store.current(uriOf('d8.test')).length, 0);
  assert.equal(store.current(uriOf('d9.test')).length, 1);
});

test('one that lost its database is quarantined, and what it said stands', async (t) => {
  const key = await Secp256k1Keypair.create({ exportable: true });
  const before = await start(t, key, 'labels.db');
  for (const uri of [reef, kelp]) await before.server.createLabel({ uri, ...vote });
  const { store, consumer, counted } = follow(t, key, before.port);
  await counted.reached('labels_accepted', 2);
  await before.close();
  const after = await start(t, key, 'new.db', before.port);
  await after.server.createLabel({ uri: kelp, ...vote });
  await counted.reached('label_stream_quarantined{future_cursor}');
  assert.equal(consumer.status().reason, 'future_cursor');
  assert.equal(store.current(reef).length, 1);
});
