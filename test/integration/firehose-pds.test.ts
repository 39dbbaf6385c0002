/** The firehose of a real PDS, with identities from a real PLC directory, into the index of attestations. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import { Secp256k1Keypair } from '@atproto/crypto';
import type { PDS } from '@atproto/pds';
import { type Database, openDatabase } from '../../appview/database.ts';
import { type AttestationChange, Attestations } from '../../appview/firehose/attestations.ts';
import { FirehoseIndexer } from '../../appview/firehose/indexer.ts';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { appviewMigrations } from '../../appview/migrations.ts';
import { startPds } from '../sandbox/pds.ts';
import { Plc } from '../sandbox/plc.ts';
import { counters, quiet } from '../unit/labels-fixtures.ts';

const collection = 'email.atmos.attestation';
const createdAt = '2026-05-01T00:00:00.000Z';

describe('the index of attestations behind a real PDS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-firehose-'));
  const file = join(folder, 'appview.db');
  let plc: Plc;
  let pds: PDS;
  let pdsUrl: string;
  let view: View;

  before(async () => {
    plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port: 0 });
    const port = await freePort();
    pdsUrl = `http://localhost:${port}`;
    pds = await startPds({ folder: join(folder, 'pds'), port, plcUrl: plc.url });
    view = new View(file, pdsUrl, plc.url);
  });

  after(async () => {
    await view.stop();
    await pds.destroy();
    await plc.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('a record is indexed as soon as its account writes it, and found by domain, account and URI', async () => {
    const reef = await account('reef.test');
    const seen = view.next(reef.assertDid, 'reef.test');
    const { uri, cid } = await attest(reef, 'reef.test', { relayMember: true });
    assert.deepEqual(await seen, { did: reef.assertDid, rkey: 'reef.test', uri, cid });
    const row = view.attestations.get(uri)!;
    assert.equal(row.record.relayMember, true);
    assert.deepEqual(row.record.dkimSelectors, ['atmos']);
    assert.deepEqual(view.attestations.byDomain('reef.test'), [row]);
    assert.deepEqual(view.attestations.of(reef.assertDid), [row]);
  });

  test('an update changes the cid, a delete removes the record', async () => {
    const kelp = await account('kelp.test');
    const first = view.next(kelp.assertDid, 'kelp.test');
    const before = await attest(kelp, 'kelp.test');
    await first;
    const second = view.next(kelp.assertDid, 'kelp.test');
    const after = await attest(kelp, 'kelp.test', { dkimSelectors: ['second'] });
    assert.notEqual(after.cid, before.cid);
    assert.equal((await second).cid, after.cid);
    assert.deepEqual(view.attestations.get(after.uri)?.record.dkimSelectors, ['second']);
    const third = view.next(kelp.assertDid, 'kelp.test');
    await remove(kelp, 'kelp.test');
    assert.equal((await third).cid, undefined);
    assert.deepEqual(view.attestations.byDomain('kelp.test'), []);
  });

  test('a record that breaks the lexicon is never indexed, and an invalid update unlists', async () => {
    const dune = await account('dune.test');
    await attest(dune, 'dune.test', { domain: 'other.test' });
    await attest(dune, 'Upper.test', { domain: 'Upper.test' });
    const good = view.next(dune.assertDid, 'dune.test');
    await attest(dune, 'dune.test');
    assert.ok((await good).cid);
    assert.equal(view.counted.of('attestations_refused{key_is_not_domain}'), 1);
    assert.equal(view.counted.of('attestations_refused{not_a_domain}'), 1);
    const gone = view.next(dune.assertDid, 'dune.test');
    await attest(dune, 'dune.test', { dkimSelectors: [] });
    assert.equal((await gone).cid, undefined);
    assert.equal(view.counted.of('attestations_refused{lexicon}'), 1);
    assert.deepEqual(view.attestations.of(dune.assertDid), []);
  });

  test('a deactivated account is not shown, and is shown again when it comes back', async () => {
    const tide = await account('tide.test');
    const listed = view.next(tide.assertDid, 'tide.test');
    await attest(tide, 'tide.test');
    const { cid } = await listed;
    const hidden = view.next(tide.assertDid, 'tide.test');
    await tide.com.atproto.server.deactivateAccount({});
    assert.equal((await hidden).cid, undefined);
    assert.deepEqual(view.attestations.byDomain('tide.test'), []);
    const shown = view.next(tide.assertDid, 'tide.test');
    await tide.com.atproto.server.activateAccount();
    assert.equal((await shown).cid, cid);
    assert.equal(view.attestations.byDomain('tide.test').length, 1);
  });

  test('a deleted account is gone', async () => {
    const sand = await account('sand.test');
    const listed = view.next(sand.assertDid, 'sand.test');
    await attest(sand, 'sand.test');
    await listed;
    const gone = view.next(sand.assertDid, 'sand.test');
    await admin().com.atproto.admin.deleteAccount({ did: sand.assertDid });
    assert.equal((await gone).cid, undefined);
    assert.deepEqual(view.attestations.of(sand.assertDid), []);
  });

  test('one commit may write several records', async () => {
    const cove = await account('cove.test');
    const names = ['cove.test', 'news.cove.test', 'shop.cove.test'];
    const seen = Promise.all(names.map((name) => view.next(cove.assertDid, name)));
    await cove.com.atproto.repo.applyWrites({
      repo: cove.assertDid,
      validate: false,
      writes: names.map((domain) => ({
        $type: 'com.atproto.repo.applyWrites#create',
        ...{ collection, rkey: domain, value: record(domain) },
      })),
    });
    await seen;
    assert.deepEqual(
      view.attestations.of(cove.assertDid).map(({ rkey }) => rkey),
      names,
    );
  });

  test('a commit signed with another key is refused and counted', async () => {
    const wreck = await account('wreck.test');
    const listed = view.next(wreck.assertDid, 'wreck.test');
    const { cid } = await attest(wreck, 'wreck.test');
    await listed;
    const stranger = await Secp256k1Keypair.create({ exportable: true });
    const { keyLocation } = await pds.ctx.actorStore.getLocation(wreck.assertDid as `did:plc:${string}`);
    writeFileSync(keyLocation, await stranger.export());
    const refused = view.toCount('commits_refused{bad_signature}');
    await attest(wreck, 'wreck.test', { relayMember: true });
    await refused;
    assert.equal(view.attestations.byDomain('wreck.test')[0]?.cid, cid, 'what was proved before stays');
    assert.equal(view.counted.of('commits_refused{bad_signature}'), 1);
  });

  test('while the directory is down a commit waits, and is proved at its PDS later', async () => {
    const fog = await account('fog.test');
    const port = Number(new URL(plc.url).port);
    await plc.stop();
    const postponed = view.toCount('commits_postponed');
    const { cid } = await attest(fog, 'fog.test');
    await postponed;
    assert.deepEqual(view.attestations.byDomain('fog.test'), []);
    const seen = view.next(fog.assertDid, 'fog.test');
    plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port });
    assert.equal((await seen).cid, cid);
  });

  test('after a restart it goes on from the stored cursor and misses nothing', async () => {
    const isle = await account('isle.test');
    const first = view.next(isle.assertDid, 'isle.test');
    await attest(isle, 'isle.test');
    await first;
    await view.stop();
    await remove(isle, 'isle.test');
    await attest(isle, 'lake.isle.test');
    view = new View(file, pdsUrl, plc.url);
    assert.equal(view.attestations.byDomain('isle.test').length, 1, 'what was known is still there');
    await view.next(isle.assertDid, 'lake.isle.test');
    assert.deepEqual(
      view.attestations.of(isle.assertDid).map(({ rkey }) => rkey),
      ['lake.isle.test'],
    );
    assert.equal(view.counted.of('commits_ignored{old_rev}'), 0, 'nothing was read a second time');
  });

  test('an index that was thrown away is rebuilt from the beginning of the firehose', async () => {
    const fresh = new View(join(folder, 'rebuilt.db'), pdsUrl, plc.url);
    const known = view.attestations.domains();
    const last = view.attestations.byDomain('lake.isle.test')[0]!;
    await fresh.next(last.did, 'lake.isle.test');
    assert.deepEqual(fresh.attestations.domains(), known);
    await fresh.stop();
  });

  async function account(handle: string): Promise<AtpAgent> {
    const agent = new AtpAgent({ service: pdsUrl });
    await agent.createAccount({ handle, email: `post@${handle}`, password: 'a long password' });
    return agent;
  }

  function admin(): AtpAgent {
    const { adminPassword } = JSON.parse(readFileSync(join(folder, 'pds', 'secrets.json'), 'utf8'));
    const agent = new AtpAgent({ service: pdsUrl });
    agent.setHeader('authorization', `Basic ${Buffer.from(`admin:${adminPassword}`).toString('base64')}`);
    return agent;
  }
});

/** The part of an AppView that reads the firehose. */
class View {
  readonly attestations: Attestations;
  readonly counted = counters();
  readonly #counts = new EventEmitter();
  readonly #db: Database.Database;
  readonly #indexer: FirehoseIndexer;

  constructor(file: string, source: string, plcUrl: string) {
    const count = (what: string, reason?: string) => {
      this.counted.count(what, reason);
      this.#counts.emit(reason === undefined ? what : `${what}{${reason}}`);
    };
    const shared = { log: quiet, count, now: Date.now };
    this.#db = openDatabase(file, appviewMigrations, { synchronous: 'NORMAL' });
    this.attestations = new Attestations({ db: this.#db, ...shared });
    const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: true });
    this.#indexer = new FirehoseIndexer({
      ...shared,
      sources: [source.replace('http', 'ws')],
      attestations: this.attestations,
      identities: new Identities({ plcUrl, fetch, now: Date.now }),
      allowLoopback: true,
    });
    this.#indexer.start();
  }

  /** The next change of one record. */
  next(did: string, rkey: string): Promise<AttestationChange> {
    return new Promise((resolve) => {
      const end = this.attestations.onChange((change) => {
        if (change.did !== did || change.rkey !== rkey) return;
        end();
        resolve(change);
      });
    });
  }

  /** @param what `what`, or `what{reason}` where there is one */
  async toCount(what: string): Promise<void> {
    await once(this.#counts, what);
  }

  async stop(): Promise<void> {
    await this.#indexer.stop();
    this.#db.close();
  }
}

function record(domain: string): Record<string, unknown> {
  return { $type: collection, domain, dkimSelectors: ['atmos'], createdAt };
}

async function attest(agent: AtpAgent, rkey: string, fields: Record<string, unknown> = {}) {
  const { data } = await agent.com.atproto.repo.putRecord({
    ...{ repo: agent.assertDid, collection, rkey, record: { ...record(rkey), ...fields } },
  });
  return data;
}

async function remove(agent: AtpAgent, rkey: string): Promise<void> {
  await agent.com.atproto.repo.deleteRecord({ repo: agent.assertDid, collection, rkey });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
