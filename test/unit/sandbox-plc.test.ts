import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { cidForLex, encode } from '@atproto/lex-cbor';
import { Plc, PlcFileDamaged } from '../sandbox/plc.ts';

const newFile = () => join(mkdtempSync(join(tmpdir(), 'plc-')), 'plc.jsonl');

test('a second start knows the identities of the first, with every later operation', async () => {
  const file = newFile();
  const first = await Plc.start({ file, port: 0 });
  const { did, change } = await register(first, 'reef.test');
  await change('coral.test');
  const before = await documentOf(first, did);
  await first.stop();

  const second = await Plc.start({ file, port: 0 });
  const after = await documentOf(second, did);
  const log = await fetch(`${second.url}/${did}/log/audit`).then(
    (r) => r.json() as Promise<{ createdAt: string }[]>,
  );
  await second.stop();
  assert.deepEqual(before.alsoKnownAs, ['at://coral.test']);
  assert.deepEqual(after, before);
  const stored = readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    log.map(({ createdAt }) => createdAt),
    stored.map(({ createdAt }) => createdAt),
  );
});

test('a refused operation is not remembered', async () => {
  const file = newFile();
  const plc = await Plc.start({ file, port: 0 });
  const { did, operation } = await signedGenesis('reef.test');
  const response = await post(plc, did, { ...operation, sig: Buffer.alloc(64).toString('base64url') });
  await plc.stop();
  assert.equal(response.status, 400);
  assert.throws(() => readFileSync(file), /ENOENT/);
});

test('a line torn by a crash is dropped, and what was acknowledged stays', async () => {
  const file = newFile();
  const first = await Plc.start({ file, port: 0 });
  const { did } = await register(first, 'reef.test');
  await first.stop();
  const whole = readFileSync(file, 'utf8');
  appendFileSync(file, whole.slice(0, 40));

  const second = await Plc.start({ file, port: 0 });
  const { alsoKnownAs } = await documentOf(second, did);
  await second.stop();
  assert.deepEqual(alsoKnownAs, ['at://reef.test']);
  assert.equal(readFileSync(file, 'utf8'), whole);
});

test('a file that was changed stops the start and names the line', async () => {
  const file = newFile();
  const first = await Plc.start({ file, port: 0 });
  await register(first, 'reef.test');
  await first.stop();
  writeFileSync(file, readFileSync(file, 'utf8').replace('reef.test', 'rxxf.test'));
  await assert.rejects(
    Plc.start({ file, port: 0 }),
    (error) => error instanceof PlcFileDamaged && error.message.startsWith(`${file}:1: `),
  );
});

async function documentOf(plc: Plc, did: string): Promise<{ alsoKnownAs: string[] }> {
  const response = await fetch(`${plc.url}/${did}`);
  return response.json() as Promise<{ alsoKnownAs: string[] }>;
}

function post(plc: Plc, did: string, operation: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(`${plc.url}/${did}`, { method: 'POST', headers, body: JSON.stringify(operation) });
}

async function register(plc: Plc, handle: string) {
  const { did, operation, sign } = await signedGenesis(handle);
  assert.equal((await post(plc, did, operation)).status, 200);
  const change = async (newHandle: string) => {
    const prev = (await cidForLex(operation)).toString();
    const next = await sign({ ...withoutSignature(operation), alsoKnownAs: [`at://${newHandle}`], prev });
    assert.equal((await post(plc, did, next)).status, 200);
  };
  return { did, change };
}

type Operation = Record<string, string | null | string[] | Record<string, unknown>>;

/** The genesis operation of a did:plc, by the specification (web.plc.directory/spec/v0.1/did-plc). */
async function signedGenesis(handle: string) {
  const key = await Secp256k1Keypair.create();
  const sign = async (operation: Operation) => ({
    ...operation,
    sig: Buffer.from(await key.sign(encode(operation as never))).toString('base64url'),
  });
  const operation = await sign({
    type: 'plc_operation',
    rotationKeys: [key.did()],
    verificationMethods: { atproto: key.did() },
    alsoKnownAs: [`at://${handle}`],
    services: {},
    prev: null,
  });
  const digest = createHash('sha256')
    .update(encode(operation as never))
    .digest();
  return { did: `did:plc:${base32(digest).slice(0, 24)}`, operation, sign };
}

function withoutSignature({ sig: _sig, ...operation }: Operation): Operation {
  return operation;
}

function base32(bytes: Buffer): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits
    .match(/.{5}/g)!
    .map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[parseInt(five, 2)])
    .join('');
}
