/** The declarations of a did:plc cooperative: records of its repo, on a real PDS, under a real PLC directory. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import { Secp256k1Keypair } from '@atproto/crypto';
import type { PDS } from '@atproto/pds';
import { Client } from '@did-plc/lib';
import { openDatabase } from '../../appview/database.ts';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { signDeclaration } from '../../node/cooperative/declaration.ts';
import { PeerBook } from '../../node/cooperative/peer-book.ts';
import { PeerRefused } from '../../node/cooperative/peer-refusal.ts';
import { Peers } from '../../node/cooperative/peers.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { freePort } from '../free-port.ts';
import { startPds } from '../sandbox/pds.ts';
import { Plc } from '../sandbox/plc.ts';
import { tableResolver } from '../unit/labeler-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'atmos-peers-pds-'));
const labelKey = await Secp256k1Keypair.create();
const createdAt = '2026-05-01T00:00:00.000Z';
let plc: Plc;
let pds: PDS;
let agent: AtpAgent;
let labeler: Server;
let labelerUrl: string;
/** What its node answers where its repo says nothing. */
let served: () => Promise<Uint8Array | undefined> = async () => undefined;

before(async () => {
  plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port: 0 });
  const port = await freePort();
  pds = await startPds({ folder: join(folder, 'pds'), port, plcUrl: plc.url });
  labeler = createServer(async (request, reply) => {
    const body = request.url!.includes('getDeclaration') ? await served() : undefined;
    reply.writeHead(body ? 200 : 404).end(body);
  }).listen(0, '127.0.0.1');
  await once(labeler, 'listening');
  labelerUrl = `http://localhost:${(labeler.address() as AddressInfo).port}`;
  agent = new AtpAgent({ service: `http://localhost:${port}` });
  await agent.createAccount({ handle: 'shoal.test', email: 'a@shoal.test', password: 'not a secret here' });
  await becomeLabeler(agent.assertDid);
});
after(async () => {
  labeler?.close();
  await pds?.destroy();
  await plc?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** As `did:plc` cooperatives do: the key and the service go into the document, signed with a rotation key. */
async function becomeLabeler(did: string): Promise<void> {
  const secrets = JSON.parse(readFileSync(join(folder, 'pds/secrets.json'), 'utf8')) as {
    plcRotationKey: string;
  };
  const rotation = await Secp256k1Keypair.import(secrets.plcRotationKey);
  await new Client(plc.url).updateData(did, rotation, (last) => ({
    ...last,
    verificationMethods: { ...last.verificationMethods, atproto_label: labelKey.did() },
    services: { ...last.services, atproto_labeler: { type: 'AtprotoLabeler', endpoint: labelerUrl } },
  }));
}

function operator() {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: true, lookup: async () => [] });
  return new Peers({
    ...{ book: new PeerBook({ db, configured: [], now: Date.now }), now: Date.now },
    own: { did: 'did:web:harbor.test', poolDomain: 'harbor.test' },
    identities: new Identities({ plcUrl: plc.url, fetch, now: Date.now }),
    resolver: tableResolver({ 'TXT _atproto.shoal.test': [`did=${agent.assertDid}`] }),
  });
}

async function put(collection: string, rkey: string, record: Record<string, unknown>): Promise<void> {
  await agent.com.atproto.repo.putRecord({
    ...{ repo: agent.assertDid, collection, rkey, validate: false },
    record: { $type: collection, ...record },
  });
}

const self = () => ({ name: 'Shoal', poolDomain: 'shoal.test', labeler: labelerUrl, createdAt });
const stance = (subject: string, more: object = {}) => ({ subject, stance: 'endorse', createdAt, ...more });
const refusedWith = (text: RegExp) => (error: unknown) =>
  error instanceof PeerRefused && text.test(error.message);

test('a cooperative whose repo proves that it declares nothing, and whose node says nothing, is refused', async () => {
  await assert.rejects(operator().preview(agent.assertDid), refusedWith(/getDeclaration answered 404/));
});

test('where the repo declares nothing, what the node serves and signed counts', async () => {
  const cooperative = { $type: 'email.atmos.cooperative', ...self(), name: 'Shoal by its node' };
  const statement = { iss: agent.assertDid, issuedAt: Date.now(), lifetimeMs: 60_000, peers: [] };
  served = () =>
    signDeclaration({ ...statement, cooperative } as Parameters<typeof signDeclaration>[0], labelKey);
  const { name, source } = await operator().preview('shoal.test');
  assert.deepEqual([name, source], ['Shoal by its node', 'node']);
});

test('records of the repo come before what the node serves, each proved; others among them count as absent', async () => {
  await put('email.atmos.cooperative', 'self', { ...self(), sendingAddresses: ['192.0.2.1'] });
  await put('email.atmos.peer', 'did:web:harbor.test', stance('did:web:harbor.test'));
  const local = 'did:web:localhost%3A8080';
  await put(
    'email.atmos.peer',
    local.replaceAll('%', '~'),
    stance(local, { stance: 'guarantee', reason: 'near' }),
  );
  await put('email.atmos.peer', 'did:web:a.test', stance('did:web:b.test'));
  await put('email.atmos.peer', 'did:web:c.test', { subject: 'nobody', createdAt });
  const preview = await operator().preview('shoal.test');
  assert.deepEqual(
    [preview.did, preview.name, preview.source, preview.labelKey, preview.sendingAddresses],
    [agent.assertDid, 'Shoal', 'repo', labelKey.did(), ['192.0.2.1']],
  );
  assert.deepEqual(preview.peers, [
    { did: local, stance: 'guarantee', reason: 'near' },
    { did: 'did:web:harbor.test', stance: 'endorse' },
  ]);
  assert.deepEqual(preview.guarantees, [local]);
});

test('more peers than one page holds are all read', async () => {
  const dids = Array.from({ length: 120 }, (_, i) => `did:web:p${String(i).padStart(3, '0')}.test`);
  for (let i = 0; i < dids.length; i += 60) {
    await agent.com.atproto.repo.applyWrites({
      ...{ repo: agent.assertDid, validate: false },
      writes: dids.slice(i, i + 60).map((did) => ({
        $type: 'com.atproto.repo.applyWrites#create',
        ...{
          collection: 'email.atmos.peer',
          rkey: did,
          value: { $type: 'email.atmos.peer', ...stance(did) },
        },
      })),
    });
  }
  const { peers } = await operator().preview(agent.assertDid);
  assert.equal(peers.length, 122);
});

test('a peer of a repo is added by its handle, and by nothing that its PDS does not prove', async () => {
  const peers = operator();
  const added = await peers.add({ name: 'shoal.test', stance: 'guarantee', evidence: [], by: 'mira' });
  assert.deepEqual([added.did, added.declared?.name], [agent.assertDid, 'Shoal']);
});

test('a record of the repo that breaks the lexicon is no declaration, and the node is not asked instead', async () => {
  await put('email.atmos.cooperative', 'self', { ...self(), name: '' });
  await assert.rejects(operator().preview('shoal.test'), refusedWith(/breaks the lexicon/));
  await put('email.atmos.cooperative', 'self', { ...self(), labeler: 'https://else.test' });
  await assert.rejects(
    operator().preview('shoal.test'),
    refusedWith(/declares the labeler https:\/\/else\.test/),
  );
});
