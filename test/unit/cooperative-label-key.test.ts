/** The label key: made, imported from the labeler before this one, changed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { CorruptState } from '../../appview/database.ts';
import { init } from '../../node/cli/init.ts';
import { importKey, rotateLabelKey, shownLabelKeys } from '../../node/cli/label-key.ts';
import { listMembers } from '../../node/cli/member.ts';
import { ConfigError, readConfig } from '../../node/config.ts';
import { didDocument, documentFaults } from '../../node/cooperative/did-document.ts';
import { ensureKeys, readKeys } from '../../node/cooperative/keys.ts';
import {
  activateLabelKey,
  dropOldLabelKey,
  importLabelKey,
  newLabelKey,
  oldLabelKeys,
  readLabelKey,
  takeUpLabelKey,
  waitingLabelKey,
} from '../../node/cooperative/label-key.ts';
import { readOriginal } from '../../node/cooperative/original.ts';

const root = mkdtempSync(join(tmpdir(), 'atmos-label-key-'));
after(() => rmSync(root, { recursive: true, force: true }));
const folder = () => mkdtempSync(join(root, 'k-'));
const original = await Secp256k1Keypair.create({ exportable: true });
const hex = Buffer.from(await original.export()).toString('hex');
const options = { name: 'Harbor', domain: 'harbor.example', url: 'https://harbor.example' };
/** The program itself. */
const atmos = (args: string[], input = '') =>
  spawnSync(process.execPath, [join(import.meta.dirname, '../../node/atmos.js'), ...args], {
    ...{ input, encoding: 'utf8' },
  });

test('a running node takes up the key that signs now: its labels first, and without them not at all', async () => {
  const dir = folder();
  const keys = { label: (await ensureKeys(dir)).label };
  const [first, next] = [keys.label.did(), (await newLabelKey(dir)).did()];
  await activateLabelKey(dir);
  const log = { info: () => undefined };
  const fullDisk = () => {
    throw new Error('database or disk is full');
  };
  await assert.rejects(takeUpLabelKey({ dir, keys, useKey: fullDisk, log }), /full/);
  assert.equal(keys.label.did(), first, 'one process has one identity');
  const used: string[] = [];
  const useKey = (key: { did(): string }) => void used.push(key.did());
  assert.deepEqual(await takeUpLabelKey({ dir, keys, useKey, log }), { labelKey: next });
  assert.deepEqual([keys.label.did(), used], [next, [next]]);
  await takeUpLabelKey({ dir, keys, useKey, log });
  assert.equal(used.length, 1, 'it does so once');
});

test('a new key waits, signs once it is activated, and the one before is kept until it is dropped', async () => {
  const dir = folder();
  const first = (await ensureKeys(dir)).label.did();
  const next = (await newLabelKey(dir)).did();
  assert.equal((await newLabelKey(dir)).did(), next, 'one waits at a time');
  assert.deepEqual([(await readKeys(dir)).label.did(), (await waitingLabelKey(dir))?.did()], [first, next]);
  assert.equal((await activateLabelKey(dir)).did(), next);
  assert.deepEqual([(await readLabelKey(dir)).did(), await waitingLabelKey(dir)], [next, undefined]);
  assert.deepEqual(await oldLabelKeys(dir), [first]);
  await assert.rejects(activateLabelKey(dir), /no label key waits/);
  for (const name of readdirSync(dir)) assert.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name);
  dropOldLabelKey(dir, first);
  assert.deepEqual(await oldLabelKeys(dir), []);
});

test('a crash in the middle of a change is mended by doing it again', async () => {
  const dir = folder();
  const first = (await ensureKeys(dir)).label.did();
  const next = (await newLabelKey(dir)).did();
  // The old key has its second name; the new one was not renamed yet.
  writeFileSync(join(dir, `label-old.${first.slice(-12)}.key`), readFileSync(join(dir, 'label.key')), {
    mode: 0o600,
  });
  assert.equal((await readKeys(dir)).label.did(), first);
  await activateLabelKey(dir);
  assert.deepEqual([(await readLabelKey(dir)).did(), await oldLabelKeys(dir)], [next, [first]]);
});

test('an imported key has the same did:key; another one that is there is never overwritten', async () => {
  const dir = join(folder(), 'keys');
  assert.equal((await importLabelKey(dir, ` ${hex.toUpperCase()}\n`)).did(), original.did());
  assert.equal((await importLabelKey(dir, hex)).did(), original.did(), 'again');
  assert.equal((await ensureKeys(dir)).label.did(), original.did());
  const other = Buffer.from(await (await Secp256k1Keypair.create({ exportable: true })).export());
  await assert.rejects(importLabelKey(dir, other.toString('hex')), /another key is there and stays/);
  assert.equal((await readLabelKey(dir)).did(), original.did());
});

for (const [what, text] of [
  ['too short', 'ab12'],
  ['zero', '00'.repeat(32)],
  ['beyond the order of the curve', 'ff'.repeat(32)],
  ['no hex', 'z'.repeat(64)],
  ['nothing', ''],
] as const) {
  test(`a key that is ${what} is refused, without being quoted, and nothing is written`, async () => {
    const dir = folder();
    await assert.rejects(
      importLabelKey(dir, text),
      (error: Error) => error instanceof RangeError && (text === '' || !error.message.includes(text)),
    );
    assert.deepEqual(readdirSync(dir), []);
  });
}

test('atmos keys import reads a file or standard input, and never a key that would be an argument', async () => {
  const dir = folder();
  const file = join(dir, 'atmos.jsonc');
  await init({ ...options, file });
  rmSync(join(dir, 'state'), { recursive: true });
  const piped = atmos(['keys', 'import', '--hex', '-', '--config', file, '--json'], `${hex}\n`);
  assert.equal(piped.status, 0, piped.stderr);
  assert.deepEqual(JSON.parse(piped.stdout), { labelKey: original.did() });
  writeFileSync(join(dir, 'signing.key'), hex);
  assert.deepEqual(await importKey(file, join(dir, 'signing.key')), { labelKey: original.did() });
  const argument = atmos(['keys', 'import', '--hex', hex, '--config', file]);
  assert.equal(argument.status, 2);
  assert.match(argument.stderr, /on the command line/);
  assert.ok(!argument.stderr.includes(hex));
});

test("init takes over the original labeler's key and settings, and names what has no place here", async () => {
  const dir = folder();
  mkdirSync(join(dir, 'old/state'), { recursive: true });
  writeFileSync(join(dir, 'old/state/signing.key'), `${hex}\n`);
  writeFileSync(
    join(dir, 'old/config.json'),
    `{
      // comments and trailing commas
      "listenAddr": ":8081",
      "stateDir": "./state",
      "jetstreamURL": "wss://jetstream1.us-east.bsky.network/subscribe",
      "reverifyInterval": "12h",
      "colour": "blue",
    }`,
  );
  const file = join(dir, 'new/atmos.jsonc');
  mkdirSync(join(dir, 'new'));
  const args = ['--name', 'Harbor', '--url', 'https://harbor.example', '--roles', 'labeler', 'web'];
  const made = atmos(['init', ...args, '--import', join(dir, 'old/config.json'), '--config', file, '--json']);
  assert.equal(made.status, 0, made.stderr);
  const { labelKey, did, left } = JSON.parse(made.stdout) as Awaited<ReturnType<typeof init>>;
  assert.deepEqual([labelKey, did], [original.did(), 'did:web:harbor.example']);
  assert.deepEqual(
    left.map(({ key }) => key),
    ['stateDir', 'jetstreamURL', 'colour'],
  );
  const config = readConfig(file);
  assert.deepEqual(config.roles, ['labeler', 'web']);
  assert.deepEqual(config.listen.web, { host: '0.0.0.0', port: 8081 });
  assert.equal(config.labeler.reverifyInterval, 12 * 3_600_000);
  assert.equal(config.domain, 'harbor.example');
  // The first command makes the rest, and keeps the key.
  await listMembers(file);
  assert.equal((await readLabelKey(join(dir, 'new/state/keys'))).did(), original.did());
});

test('init with the key of another labeler changes nothing where there is a key', async () => {
  const dir = folder();
  const file = join(dir, 'atmos.jsonc');
  const { labelKey } = await init({ ...options, file });
  rmSync(file);
  writeFileSync(join(dir, 'config.json'), '{ "signingKeyPath": "signing.key" }');
  writeFileSync(join(dir, 'signing.key'), hex);
  await assert.rejects(
    init({ ...options, file, importFile: join(dir, 'config.json') }),
    /another key is there/,
  );
  assert.ok(!existsSync(file));
  assert.equal((await readLabelKey(join(dir, 'state/keys'))).did(), labelKey);
});

const faulty: [what: string, text: string, says: RegExp][] = [
  ['no JSON', '{ "listenAddr" ', /not valid JSON/],
  ['a list', '[]', /holds no object/],
  ['a number for a path', '{ "signingKeyPath": 7 }', /"signingKeyPath" is no text/],
  ['an address without a port', '{ "listenAddr": "localhost" }', /no address such as :8081/],
  ['a time without a unit', '{ "reverifyInterval": "24" }', /no time such as 24h/],
];
for (const [what, text, says] of faulty)
  test(`an original configuration with ${what} is refused by its name`, () => {
    assert.throws(() => readOriginal(text, '/old/config.json'), says);
    assert.throws(() => readOriginal(text, '/old/config.json'), /^Error: \/old\/config\.json/);
  });

test("Go's times become ours", () => {
  const ours = (time: string) => readOriginal(`{ "reverifyInterval": "${time}" }`, '/c').reverifyInterval;
  assert.deepEqual(['24h', '1h30m', '90s', '24h0m0s', '1m30s'].map(ours), [
    '24h',
    '90m',
    '90s',
    '24h',
    '90s',
  ]);
  assert.equal(readOriginal('{}', '/old/config.json').signingKeyFile, '/old/state/signing.key');
});

test('init for a labeler alone asks for no pool domain and opens no port but the web', async () => {
  const file = join(folder(), 'atmos.jsonc');
  await init({ file, name: 'Cove', url: 'https://cove.example', roles: ['labeler'] });
  const text = readFileSync(file, 'utf8');
  for (const word of ['submission', 'inbound', 'tls', 'hostmaster', '"dns"', 'pool'])
    assert.ok(!text.includes(word), word);
  assert.deepEqual(readConfig(file).roles, ['labeler']);
  const relay = { file: join(folder(), 'atmos.jsonc'), name: 'Cove', url: 'https://cove.example' };
  await assert.rejects(init(relay), /--domain is missing/);
  await assert.rejects(init({ ...options, file: relay.file, did: 'did:key:zQ3sh' }), ConfigError);
  assert.ok(!existsSync(relay.file));
});

test('a did:plc is written down, and its new label key waits', async () => {
  const file = join(folder(), 'atmos.jsonc');
  const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
  const { labelKey } = await init({ ...options, file, did, roles: ['labeler'] });
  writeFileSync(
    file,
    readFileSync(file, 'utf8').replace('{ "resolvers"', '{ "plcUrl": "http://127.0.0.1:1", "resolvers"'),
  );
  assert.equal(readConfig(file).did, did);
  const rotated = await rotateLabelKey(file);
  assert.deepEqual([rotated.signs, rotated.before], [false, labelKey]);
  const shown = await shownLabelKeys(file);
  assert.deepEqual(
    [shown.labelKey, shown.waiting, shown.document.state],
    [labelKey, rotated.labelKey, 'unread'],
  );
  assert.equal(shown.document.must.verificationMethod.publicKeyMultibase, labelKey.slice('did:key:'.length));
});

test('a did:web without a running node is changed for its next start', async () => {
  const file = join(folder(), 'atmos.jsonc');
  const { labelKey } = await init({ ...options, file });
  const rotated = await rotateLabelKey(file);
  assert.deepEqual([rotated.signs, rotated.running, rotated.before], [true, false, labelKey]);
  assert.equal((await readLabelKey(join(file, '../state/keys'))).did(), rotated.labelKey);
});

test('the key of a did:web that stands elsewhere waits until its document names it', async (t) => {
  const file = join(folder(), 'atmos.jsonc');
  const dir = join(file, '../state/keys');
  let document: object = {};
  const elsewhere = createServer((_, reply) => void reply.end(JSON.stringify(document)));
  elsewhere.listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  t.after(() => elsewhere.close());
  const did = `did:web:localhost%3A${(elsewhere.address() as AddressInfo).port}`;
  const here = { ...options, url: 'http://localhost:1' };
  const { labelKey } = await init({ ...here, roles: ['labeler'], file, did });
  // A test network: only this machine is asked.
  const text = readFileSync(file, 'utf8').replaceAll('0.0.0.0', '127.0.0.1');
  const network =
    '"firehose": ["ws://127.0.0.1:1"],\n"network": { "loopbackOnly": true, "plcUrl": "http://127.0.0.1:1", "resolvers"';
  writeFileSync(file, text.replace('"network": { "resolvers"', network));
  const { labelerUrl } = readConfig(file);
  document = didDocument({ did, labelKey, labelerUrl });
  const waits = await rotateLabelKey(file);
  assert.deepEqual([waits.signs, waits.document.state], [false, 'wrong']);
  assert.equal((await readLabelKey(dir)).did(), labelKey);
  assert.equal((await shownLabelKeys(file)).waiting, waits.labelKey);
  document = didDocument({ did, labelKey: waits.labelKey, labelerUrl });
  const { signs, labelKey: next } = await rotateLabelKey(file);
  assert.deepEqual([signs, next], [true, waits.labelKey]);
  assert.equal((await readLabelKey(dir)).did(), next);
});

test('what is wrong with a DID document is said in words', () => {
  const wanted = { labelKey: 'did:key:zQ3shOurs', labelerUrl: 'https://harbor.example' };
  const labeler = wanted.labelerUrl;
  assert.deepEqual(documentFaults({ labelKey: wanted.labelKey, labeler }, wanted), []);
  assert.deepEqual(documentFaults({}, wanted).length, 2);
  assert.match(documentFaults({ labelKey: 'did:key:zQ3shTheirs', labeler }, wanted)[0]!, /another: .*Theirs/);
  assert.match(documentFaults({ ...wanted, labeler: 'https://old.example' }, wanted)[0]!, /elsewhere: .*old/);
});

test('a damaged key that waits stops us by its name', async () => {
  const dir = folder();
  await ensureKeys(dir);
  writeFileSync(join(dir, 'label-next.key'), 'ab12', { mode: 0o600 });
  await assert.rejects(
    activateLabelKey(dir),
    (error: Error) =>
      error instanceof CorruptState &&
      /label-next\.key is not/.test(error.message) &&
      !/ab12/.test(error.message),
  );
});
