/**
 * A node that is a labeler and nothing else: made by `atmos init --roles labeler`, with a real PDS and a real PLC
 * directory for its member. No port for mail, no certificate, no DNS record of its own.
 */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import type { PDS } from '@atproto/pds';
import { pino } from 'pino';
import { type RawData, WebSocket } from 'ws';
import {
  decodeFrame,
  parseJsonLabel,
  parseLabel,
  type SignedLabel,
  verifyLabel,
} from '../../appview/labels/codec.ts';
import { init } from '../../node/cli/init.ts';
import { dropOldLabelKeys, rotateLabelKey, shownLabelKeys } from '../../node/cli/label-key.ts';
import { enrolMember } from '../../node/cli/member.ts';
import { shownPoolKeys } from '../../node/cli/pool-rotation.ts';
import { readConfig } from '../../node/config.ts';
import { verifyDeclaration } from '../../node/cooperative/declaration.ts';
import { dkimRecord } from '../../node/members/dkim-keys.ts';
import { Node } from '../../node/node.ts';
import { freePort } from '../free-port.ts';
import { DnsWorld } from '../sandbox/dns-world.ts';
import { startPds } from '../sandbox/pds.ts';
import { Plc } from '../sandbox/plc.ts';
import { publish, setsOf } from '../sandbox/zone-data.ts';
import { until } from '../until.ts';

const folder = mkdtempSync(join(tmpdir(), 'atmos-alone-'));
const file = join(folder, 'atmos.jsonc');
let plc: Plc;
let pds: PDS;
let dns: DnsWorld;
let web: string;
let node: Node;
let member: AtpAgent;
let did: string;
let labelKey: string;

before(async () => {
  plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port: 0 });
  dns = await DnsWorld.start({ port: 0 });
  const port = await freePort();
  pds = await startPds({ folder: join(folder, 'pds'), port, plcUrl: plc.url });
  const webPort = await freePort();
  web = `http://localhost:${webPort}`;
  const made = await init({ file, name: 'Cove', url: web, domain: 'cove.test', roles: ['labeler'] });
  [did, labelKey] = [made.did, made.labelKey];
  const network = { loopbackOnly: true, plcUrl: plc.url, resolvers: [`127.0.0.1:${dns.port}`] };
  const text = readFileSync(file, 'utf8')
    .replace('{ "resolvers": ["127.0.0.1:53"] }', JSON.stringify(network))
    .replace('127.0.0.1:8080', `127.0.0.1:${webPort}`)
    .replace('"peers"', `"firehose": ["ws://localhost:${port}"],\n  "peers"`);
  writeFileSync(file, text);
  member = new AtpAgent({ service: `http://localhost:${port}` });
  await member.createAccount({ handle: 'reef.test', email: 'a@reef.test', password: 'a long password' });
  node = new Node(readConfig(file), pino({ level: 'silent' }));
  await node.start();
});
after(async () => {
  await node?.stop();
  await pds?.destroy();
  await dns?.stop();
  await plc?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function labels(): Promise<SignedLabel[]> {
  const answer = await fetch(`${web}/xrpc/com.atproto.label.queryLabels?uriPatterns=*`);
  const { labels } = (await answer.json()) as { labels: unknown[] };
  return labels.map((label) => parseJsonLabel(label)!);
}

/** The first frame of the stream, from the oldest label. */
async function firstFrame(): Promise<SignedLabel[]> {
  const socket = new WebSocket(
    `${web.replace('http', 'ws')}/xrpc/com.atproto.label.subscribeLabels?cursor=0`,
  );
  const [bytes] = (await once(socket, 'message')) as [RawData];
  socket.terminate();
  const frame = decodeFrame(new Uint8Array(bytes as Buffer));
  assert.equal(frame?.kind, 'labels');
  return (frame as { labels: readonly unknown[] }).labels.map((label) => parseLabel(label)!);
}

/** Of one who sends by other ways. */
function publishMailRecords(domain: string): void {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const der = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  dns.set(domain, 'MX', ['10 mx.elsewhere.test']);
  dns.set('mx.elsewhere.test', 'A', ['127.0.0.1']);
  dns.set(domain, 'TXT', ['v=spf1 ip4:127.0.0.1 -all']);
  dns.set(`_dmarc.${domain}`, 'TXT', ['v=DMARC1; p=reject']);
  dns.set(`own._domainkey.${domain}`, 'TXT', [dkimRecord('rsa', der)]);
}

async function documentKey(): Promise<string> {
  const document = (await (await fetch(`${web}/.well-known/did.json`)).json()) as {
    verificationMethod: { publicKeyMultibase: string }[];
  };
  return `did:key:${document.verificationMethod[0]!.publicKeyMultibase}`;
}

test('it listens for the web alone, has no certificate, and asks for no DNS record of its own', async () => {
  const { listen } = readConfig(file);
  for (const { port } of [listen.submission, listen.submissions, listen.inbound, ...listen.dns]) {
    const socket = connect(port, '127.0.0.1');
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNREFUSED', String(port));
  }
  assert.ok(!readdirSync(join(folder, 'state/keys')).some((name) => name.startsWith('tls-')));
  assert.ok(!existsSync(join(folder, 'state/spool.db')));
  assert.deepEqual(await shownPoolKeys(file), []);
  const { document } = await shownLabelKeys(file);
  assert.deepEqual([document.state, document.faults], ['right', []]);
});

test("it reads its member's attestation, looks at DNS, and serves the labels", async () => {
  const enrolled = await enrolMember(file, { did: member.assertDid, domains: ['reef.test'], relay: true });
  assert.deepEqual(
    enrolled.dns.map(({ type, name }) => `${type} ${name}`),
    ['TXT _atproto.reef.test'],
    'its mail records are its own',
  );
  publishMailRecords('reef.test');
  publish(dns.zone, setsOf(enrolled.dns));
  const record = {
    ...{ $type: 'email.atmos.attestation', domain: 'reef.test', dkimSelectors: ['own'] },
    ...{ relayMember: true, createdAt: new Date().toISOString() },
  };
  const { data } = await member.com.atproto.repo.putRecord({
    ...{ repo: member.assertDid, collection: 'email.atmos.attestation', rkey: 'reef.test' },
    record,
  });
  const issued = await until('the labels', async () => {
    const all = await labels();
    return all.length >= 2 && all;
  });
  assert.deepEqual(
    issued.map(({ uri, val, cid }) => [uri, val, cid]).sort(),
    [
      [data.uri, 'verified-mail-operator', data.cid],
      [member.assertDid, 'verified-mail-operator', undefined],
    ].sort(),
    'nobody is a relay member where there is no relay',
  );
  for (const label of issued) assert.ok(label.src === did && verifyLabel(label, labelKey));
  assert.ok((await firstFrame()).every((label) => verifyLabel(label, labelKey)));
});

test('a new label key signs at once, in the document, the answers, the stream and the declaration', async () => {
  const rotated = await rotateLabelKey(file);
  assert.deepEqual([rotated.before, rotated.signs, rotated.running], [labelKey, true, true]);
  assert.notEqual(rotated.labelKey, labelKey);
  assert.equal(await documentKey(), rotated.labelKey);
  const before = await shownLabelKeys(file);
  assert.deepEqual(before.old, { keys: [labelKey], labels: 2 });
  await assert.rejects(dropOldLabelKeys(file), /2 labels that stand were signed with an old key/);
  for (const label of await firstFrame()) assert.ok(verifyLabel(label, rotated.labelKey));
  for (const label of await labels()) assert.ok(verifyLabel(label, rotated.labelKey));
  const answer = await fetch(`${web}/xrpc/email.atmos.cooperative.getDeclaration`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  assert.equal(verifyDeclaration(bytes, { did, labelKey: rotated.labelKey }, Date.now()).kind, 'valid');
  const after = await shownLabelKeys(file);
  assert.deepEqual([after.labelKey, after.old.labels], [rotated.labelKey, 0], 'all were read');
  assert.deepEqual(await dropOldLabelKeys(file), [labelKey]);
  assert.deepEqual((await shownLabelKeys(file)).old.keys, []);
  labelKey = rotated.labelKey;
});

test('after a restart it is the same labeler', async () => {
  await node.stop();
  node = new Node(readConfig(file), pino({ level: 'silent' }));
  await node.start();
  assert.equal(await documentKey(), labelKey);
  const all = await labels();
  assert.equal(all.length, 2);
  for (const label of all) assert.ok(verifyLabel(label, labelKey));
});

test('with an AppView beside it, its votes go on counting under a new key, those before and those after', async () => {
  await node.stop();
  const configuration = readFileSync(file, 'utf8')
    .replace('["labeler"]', '["labeler", "appview"]')
    .replace('"peers"', '"listing": { "newcomerDays": 0 },\n  "peers"');
  writeFileSync(file, configuration);
  node = new Node(readConfig(file), pino({ level: 'silent' }));
  await node.start();
  const query = new URLSearchParams({ domain: 'reef.test' });
  const listed = async () => {
    const answer = await fetch(`${web}/xrpc/email.atmos.listing.get?${query}`);
    const { listing, attestation } = (await answer.json()) as {
      listing?: { trust: number };
      attestation?: { cid: string };
    };
    return listing?.trust === 1 && attestation?.cid;
  };
  const before = await until('the listing', listed);
  const { labelKey: next } = await rotateLabelKey(file);
  assert.equal(await listed(), before);
  await member.com.atproto.repo.putRecord({
    ...{ repo: member.assertDid, collection: 'email.atmos.attestation', rkey: 'reef.test' },
    record: {
      ...{ $type: 'email.atmos.attestation', domain: 'reef.test', dkimSelectors: ['own'] },
      createdAt: new Date().toISOString(),
    },
  });
  await until('a listing by a label under the new key', async () => {
    const now = await listed();
    return now && now !== before;
  });
  for (const label of await labels()) assert.ok(verifyLabel(label, next));
});
