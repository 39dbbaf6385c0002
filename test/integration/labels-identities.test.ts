/** An issuer whose identity changes, at a real PLC directory: another key, another address, another handle. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bytesToMultibase, parseDidKey, Secp256k1Keypair } from '@atproto/crypto';
import { addSignature, Client, didForCreateOp } from '@did-plc/lib';
import { AppView } from '../../appview/appview.ts';
import { Identities, IdentityNotFound, IdentityUnavailable } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import type { KeyChanged } from '../../appview/labels/issuer-key.ts';
import { Plc } from '../sandbox/plc.ts';
import { counters, iso, june, memoryDatabases, quiet, uriOf } from '../unit/labels-fixtures.ts';
import { ForeignLabeler } from './foreign-labeler.ts';

const localOnly = { allowLoopback: true, loopbackOnly: true };
const reef = uriOf('reef.test');
const kelp = uriOf('kelp.test');

describe('an issuer whose did:plc changes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-identities-'));
  const ending: (() => unknown)[] = [];
  let plc: Plc;
  let client: Client;

  before(async () => {
    plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port: 0 });
    client = new Client(plc.url);
  });
  after(async () => {
    for (const end of ending.reverse()) await end();
    await plc.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** A labeler with a DID at the directory, and an AppView that follows it. Time moves when a test says so. */
  async function startWorld() {
    const rotation = await Secp256k1Keypair.create();
    const labelKey = await Secp256k1Keypair.create();
    const create = await addSignature(
      {
        ...{ type: 'plc_operation' as const, prev: null, rotationKeys: [rotation.did()] },
        verificationMethods: { atproto: rotation.did(), atproto_label: labelKey.did() },
        alsoKnownAs: ['at://harbor.test'],
        services: { atproto_labeler: { type: 'AtprotoLabeler', endpoint: 'http://localhost:1' } },
      },
      rotation,
    );
    const did = await didForCreateOp(create);
    await client.sendOperation(did, create);
    const labeler = await ForeignLabeler.start(did);
    ending.push(() => labeler.close());
    const publish = (fields: { key?: string; endpoint?: string; handle?: string }) =>
      client.updateData(did, rotation, (last) => ({
        ...last,
        ...(fields.handle && { alsoKnownAs: [`at://${fields.handle}`] }),
        verificationMethods: {
          ...last.verificationMethods,
          ...(fields.key && { atproto_label: fields.key }),
        },
        ...(fields.endpoint && {
          services: { atproto_labeler: { type: 'AtprotoLabeler', endpoint: fields.endpoint } },
        }),
      }));
    await publish({ key: labeler.didKey, endpoint: labeler.url });

    const clock = { ahead: 0 };
    const now = () => Date.now() + clock.ahead;
    const fetch = guardedFetch(localOnly);
    const identities = new Identities({ plcUrl: plc.url, fetch, now });
    const { db: appviewDb, ledgerDb } = memoryDatabases();
    const counted = counters();
    const changes: KeyChanged[] = [];
    const appview = new AppView({
      ...{ appviewDb, ledgerDb, did: 'did:web:meadow.test', publicUrl: 'https://meadow.test', identities },
      ...{ firehose: [], follow: [{ did }], roots: [did], rules: localOnly },
      ...{ log: quiet, count: counted.count, now },
      labelAlerts: { onKeyChange: (_src, change) => changes.push(change) },
    });
    appview.start();
    ending.push(() => appview.stop());
    return { did, labeler, publish, clock, identities, appview, counted, changes };
  }

  test('a key that was rotated at the directory counts at once, and the operator is told', async () => {
    const { labeler, publish, appview, counted, changes } = await startWorld();
    labeler.emit(1, await labeler.sign());
    await counted.reached('labels_accepted');
    const old = labeler.didKey;
    await labeler.rotateKey();
    await publish({ key: labeler.didKey });
    labeler.emit(2, await labeler.sign({ uri: kelp, cts: iso(Date.now()) }));
    await counted.reached('labels_accepted', 2);
    assert.equal(appview.labels.current(kelp).length, 1);
    assert.deepEqual(
      changes.map(({ before, after }) => [before, after]),
      [[old, labeler.didKey]],
    );
  });

  test('a labeler that moved is read at its new address, from the cursor on', async () => {
    const { did, labeler, publish, clock, appview, counted } = await startWorld();
    labeler.emit(7, await labeler.sign());
    await counted.reached('labels_accepted');
    const moved = await ForeignLabeler.start(did);
    ending.push(() => moved.close());
    await publish({ endpoint: moved.url, key: moved.didKey });
    moved.emit(8, await moved.sign({ uri: kelp, cts: iso(Date.now()) }));
    clock.ahead += 60_000;
    await labeler.close();
    await counted.reached('labels_accepted', 2);
    assert.equal(appview.labels.current(kelp).length, 1);
    assert.equal(moved.cursors[0], 7);
  });

  test('a handle that moves changes the name of the issuer and nothing of its labels', async () => {
    const { did, labeler, publish, clock, identities, appview, counted } = await startWorld();
    labeler.emit(1, await labeler.sign());
    await counted.reached('labels_accepted');
    assert.equal((await identities.resolve(did)).handle, 'harbor.test');
    await publish({ handle: 'port.test' });
    clock.ahead += 3_600_000;
    assert.equal((await identities.resolve(did)).handle, 'port.test');
    labeler.emit(2, await labeler.sign({ uri: kelp }));
    await counted.reached('labels_accepted', 2);
    assert.equal(appview.labels.current(reef).length, 1);
    assert.equal(appview.peerStatus(did)?.state, 'following');
  });
});

describe('a document of a did:web', () => {
  /** Answers every question for `did.json` with `body`. */
  async function serving(body: (did: string) => string | Buffer) {
    const server = createServer((_request, response) => response.end(body(did)));
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    const did = `did:web:localhost%3A${(server.address() as AddressInfo).port}`;
    const fetch = guardedFetch(localOnly);
    const identities = new Identities({ plcUrl: 'http://localhost:1', fetch, now: () => june });
    const close = () => {
      server.close();
      server.closeAllConnections();
    };
    return { did, identities, close };
  }

  const unusable: [what: string, body: (did: string) => string | Buffer, error: new () => Error][] = [
    ['of 1 MB', (id) => JSON.stringify({ id, filler: 'x'.repeat(1_000_000) }), IdentityUnavailable],
    ['of garbage', () => Buffer.alloc(10_000, 0xff), IdentityNotFound],
    ['that is nested without end', () => '['.repeat(30_000), IdentityNotFound],
    ['that is empty', () => '', IdentityNotFound],
    ["of another's DID", () => JSON.stringify({ id: 'did:web:other.test' }), IdentityNotFound],
  ];
  for (const [what, body, error] of unusable) {
    test(`${what} is no identity`, async () => {
      const { did, identities, close } = await serving(body);
      await assert.rejects(identities.resolve(did), error);
      close();
    });
  }

  test('of the older form names its label key too', async () => {
    const key = await Secp256k1Keypair.create();
    const { keyBytes } = parseDidKey(key.did());
    const { did, identities, close } = await serving((id) =>
      JSON.stringify({
        id,
        verificationMethod: [
          {
            ...{ id: '#atproto_label', type: 'EcdsaSecp256k1VerificationKey2019', controller: id },
            publicKeyMultibase: bytesToMultibase(keyBytes, 'base58btc'),
          },
        ],
      }),
    );
    assert.equal((await identities.resolve(did)).labelKey, key.did());
    close();
  });
});
