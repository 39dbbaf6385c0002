/**
 * Labels beside @skyware/labeler: each side's signatures hold for the other, with `neg: false` in the bytes
 * (skyware) and without (we), and its stream and its answers are read by what reads a peer's.
 */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import { LabelerServer, signLabel as skywareSigns } from '@skyware/labeler';
import { type RawData, WebSocket } from 'ws';
import { openDatabase } from '../../appview/database.ts';
import { decodeFrame, labelBytes, parseLabel, verifyLabel } from '../../appview/labels/codec.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { labelJson } from '../../node/labeler/label-json.ts';
import { labelSigner } from '../../node/labeler/label-signer.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { temporaryFolder } from '../unit/spool-fixtures.ts';

const did = 'did:web:meadow.test';
const uri = 'at://did:plc:reef/email.atmos.attestation/reef.test';
const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
const val = 'verified-mail-operator';

async function makeKey() {
  const key = await Secp256k1Keypair.create({ exportable: true });
  const secret = await key.export();
  return { key, secret, hex: Buffer.from(secret).toString('hex') };
}

async function startSkyware(t: TestContext) {
  const { key, hex } = await makeKey();
  const server = new LabelerServer({ did, signingKey: hex, dbPath: join(temporaryFolder(t), 'labels.db') });
  await new Promise<void>((resolve, reject) => {
    server.start({ port: 0, host: '127.0.0.1' }, (error) => (error ? reject(error) : resolve()));
  });
  t.after(() => {
    server.app.server.closeAllConnections();
    server.db.close();
    return new Promise<void>((resolve) => server.close(resolve));
  });
  return { key, server, at: `127.0.0.1:${(server.app.server.address() as AddressInfo).port}` };
}

test("skyware's labels come over its stream and its queryLabels with `neg: false`, and verify as received", async (t) => {
  const { key, server, at } = await startSkyware(t);
  await server.createLabel({ uri, cid, val });
  await server.createLabel({ uri, val, neg: true });
  const socket = new WebSocket(`ws://${at}/xrpc/com.atproto.label.subscribeLabels?cursor=0`);
  t.after(() => socket.terminate());
  const streamed: unknown[] = [];
  await new Promise<void>((resolve) => {
    socket.on('message', (bytes: RawData) => {
      const frame = decodeFrame(bytes as Buffer);
      if (frame?.kind === 'labels') streamed.push(...frame.labels);
      if (streamed.length === 2) resolve();
    });
  });
  const response = await fetch(`http://${at}/xrpc/com.atproto.label.queryLabels?uriPatterns=${uri}`);
  const { labels } = (await response.json()) as { labels: { sig: { $bytes: string } }[] };
  const queried = labels.map((label) => ({ ...label, sig: Buffer.from(label.sig.$bytes, 'base64') }));
  for (const raw of [...streamed, ...queried]) {
    const label = parseLabel(raw)!;
    assert.equal(verifyLabel(label, key.did()), true);
    assert.equal(await verifySignature(key.did(), labelBytes(label), label.sig), true);
  }
  assert.deepEqual(
    [...streamed, ...queried].map((raw) => parseLabel(raw)!.neg),
    [false, true, false, true],
  );
  // Without its false field the bytes are others.
  const { neg: _, ...rest } = parseLabel(streamed[0])!;
  assert.equal(verifyLabel(rest, key.did()), false);
});

test('of the same key and fields both make the same signature, with a false field and with a true one', async () => {
  const { key, secret } = await makeKey();
  const ours = await labelSigner(key);
  for (const neg of [false, true]) {
    const fields = { ver: 1, src: did, uri, cid, val, neg, cts: '2026-11-20T09:00:00.000Z' } as const;
    const { sig, ...signed } = skywareSigns(fields as never, secret);
    assert.deepEqual(signed, fields);
    assert.deepEqual(Buffer.from(sig), Buffer.from(await ours.sign(encode(fields))));
  }
});

test('skyware makes of our negations the same label, bit for bit', async (t) => {
  const { key, secret } = await makeKey();
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  t.after(() => db.close());
  const issued = new IssuedLabels({ db, did, key, now: Date.now });
  const [, negation] = await issued.append({ issue: [{ uri, val, cid }], negate: [{ uri, val }] });
  const { sig, ...fields } = negation!.label;
  assert.deepEqual(Buffer.from(skywareSigns(fields as never, secret).sig), Buffer.from(sig));
});

test('our labels, saved in a skyware labeler, keep their signature in its database', async (t) => {
  const { server } = await startSkyware(t);
  const { key } = await makeKey();
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  t.after(() => db.close());
  const issued = new IssuedLabels({ db, did, key, now: Date.now });
  const [appended] = await issued.append({ issue: [{ uri, val, cid }], negate: [] });
  const { label } = appended!;
  await (server as unknown as { saveLabel(label: unknown): Promise<unknown> }).saveLabel(label);
  const { rows } = await server.db.execute('SELECT uri, cid, val, cts, src, sig FROM labels');
  const { uri: on, cid: of, val: value, cts, src, sig } = rows[0] as Record<string, unknown>;
  const read = { ver: 1, src, uri: on, cid: of, val: value, cts, sig: new Uint8Array(sig as ArrayBuffer) };
  assert.equal(verifyLabel(parseLabel(read)!, key.did()), true);
  assert.ok(labelJson(label).includes(`"sig":{"$bytes":"`));
});
