import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import { activateRotation, beginRotation, dkimStatus } from '../../node/cli/dkim.ts';
import { init } from '../../node/cli/init.ts';
import {
  apiKeys,
  dnsRecords,
  enrolMember,
  listMembers,
  revokeApiKey,
  setForwardTo,
} from '../../node/cli/member.ts';
import { dropOldPoolKey } from '../../node/cli/pool-rotation.ts';
import { readConfig } from '../../node/config.ts';
import { newPoolKey, poolKeys, usePoolKey } from '../../node/cooperative/pool-keys.ts';
import { openMembership } from '../../node/state.ts';
import { DnsWorld } from '../sandbox/dns-world.ts';

const dir = mkdtempSync(join(tmpdir(), 'atmos-cli-'));
after(() => rmSync(dir, { recursive: true }));
let count = 0;

const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
const options = { name: 'Harbor', domain: 'harbor.example', url: 'https://harbor.example' };

/** A configuration as `atmos init` writes it, in a folder of its own. */
async function initialised() {
  const file = join(dir, String(++count), 'atmos.jsonc');
  const made = await init({ ...options, file });
  return { file, made, keys: join(dir, String(count), 'state/keys') };
}

test('init writes a configuration that passes, and keys of mode 0600', async () => {
  const { file, made, keys } = await initialised();
  assert.equal(readConfig(file).did, 'did:web:harbor.example');
  assert.match(made.labelKey, /^did:key:zQ3s/);
  assert.equal(statSync(join(keys, 'label.key')).mode & 0o777, 0o600);
});

test('a second init changes neither the file nor a key', async () => {
  const { file, made } = await initialised();
  writeFileSync(file, readFileSync(file, 'utf8').replace('"Harbor"', '"Mine"'));
  await assert.rejects(init({ ...options, file }), /already there and stays as it is/);
  assert.match(readFileSync(file, 'utf8'), /"Mine"/);
  rmSync(file);
  assert.equal((await init({ ...options, file })).labelKey, made.labelKey);
});

test('a key that was lost stops every command, and no other takes its place', async () => {
  const { file, keys } = await initialised();
  await listMembers(file);
  rmSync(join(keys, 'label.key'));
  await assert.rejects(
    listMembers(file),
    (error) => error instanceof CorruptState && /label\.key is missing/.test(error.message),
  );
  await assert.rejects(init({ ...options, file: `${file}.other` }), CorruptState);
  assert.ok(!existsSync(join(keys, 'label.key')));
  assert.ok(!existsSync(`${file}.other`));
});

test('enrolling prints a key once, and the records that make the five checks pass', async () => {
  const { file } = await initialised();
  const made = await enrolMember(file, {
    did,
    handle: 'reef.example',
    domains: ['Reef.Example'],
    relay: true,
  });
  assert.match(made.apiKey, /^atmos_/);
  assert.deepEqual(made.domains, ['reef.example']);
  assert.deepEqual(made.dns, await dnsRecords(file, 'reef.example'));
  assert.deepEqual(
    made.dns.map(({ type, name }) => `${type} ${name}`),
    [
      'MX reef.example',
      'TXT reef.example',
      'TXT _dmarc.reef.example',
      'TXT atmose._domainkey.reef.example',
      'TXT atmosr._domainkey.reef.example',
      'TXT _atproto.reef.example',
    ],
  );
});

const refusals: [
  name: string,
  request: { did?: string; domains?: string[]; category?: string; handle?: string },
  says: RegExp,
][] = [
  ['a DID that is none', { did: 'reef.example' }, /is not a DID/],
  ['a domain that is none', { domains: ['not a domain'] }, /is not a domain/],
  ['more domains than a member may have', { domains: ['a.example', 'b.example', 'c.example'] }, /at most 2/],
  ['a handle that is none', { handle: 'not a handle' }, /is not a handle/],
  ['the pool domain', { domains: ['harbor.example'] }, /is the pool domain/],
  ['a category that is none', { category: 'bulky' }, /is not a category. Known: /],
];
for (const [name, request, says] of refusals) {
  test(`${name} is refused with a reason, and nobody is enrolled`, async () => {
    const { file } = await initialised();
    await assert.rejects(
      enrolMember(file, { did, domains: ['reef.example'], relay: true, ...request }),
      says,
    );
    assert.deepEqual(await listMembers(file), []);
  });
}

test('a forward-to is never confirmed by an operator: the running node must mail the link', async () => {
  const { file } = await initialised();
  await enrolMember(file, { did, domains: ['reef.example'], relay: true });
  await assert.rejects(setForwardTo(file, 'reef.example', 'me@else.example'), /no node runs/);
  const { db, members } = await openMembership(readConfig(file), Date.now);
  assert.equal(members.domain('reef.example')?.forwardTo, null);
  db.close();
});

const calls: [name: string, args: string[], status: number, says: RegExp][] = [
  ['an unknown command', ['membr'], 64, /unknown command.*\n?.*member/],
  ['a missing option', ['member', 'enrol'], 64, /required option/],
  [
    'a missing configuration',
    ['start', '--config', '/nowhere/atmos.jsonc'],
    2,
    /\/nowhere\/atmos\.jsonc:1:1: there is no such file/,
  ],
  ['help', ['--help'], 0, /Usage: atmos/],
];
for (const [name, args, status, says] of calls) {
  test(`atmos: ${name} ends with ${status}`, () => {
    const run = spawnSync(process.execPath, [join(import.meta.dirname, '../../node/atmos.js'), ...args]);
    assert.equal(run.status, status, run.stderr.toString());
    assert.match(run.stdout.toString() + run.stderr.toString(), says);
  });
}

test('init writes down who is told; without one it shows where that would stand', async () => {
  const { file } = await initialised();
  assert.equal(readConfig(file).operator.email, undefined);
  assert.match(readFileSync(file, 'utf8'), /\/\/ "operator": \{ "email"/);
  const other = join(dir, String(++count), 'atmos.jsonc');
  await init({ ...options, file: other, email: 'ada@elsewhere.example' });
  assert.equal(readConfig(other).operator.email, 'ada@elsewhere.example');
});

test('the API keys of a member are listed, without a secret, so that one can be revoked', async () => {
  const { file } = await initialised();
  const { apiKey } = await enrolMember(file, { did, domains: ['reef.example'], relay: true });
  const [key, ...more] = await apiKeys(file, did);
  assert.deepEqual([key!.name, key!.defaultCategory, more], ['first key', null, []]);
  // The secret has 43 characters, and `_` may be among them.
  assert.ok(!JSON.stringify(key).includes(apiKey.slice(-43)));
  assert.equal(await revokeApiKey(file, did, key!.id), true);
  assert.notEqual((await apiKeys(file, did))[0]!.revokedAt, null);
  await assert.rejects(apiKeys(file, 'did:plc:nobody'), /not enrolled/);
});

test('how many domains a member has is the configuration’s', async () => {
  const { file } = await initialised();
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('"peers"', '"caps": { "domainsPerMember": 3 },\n  "peers"'));
  const domains = ['a.example', 'b.example', 'c.example'];
  assert.deepEqual((await enrolMember(file, { did, domains, relay: true })).domains, domains);
  const four = { did, domains: ['d.example'], relay: true };
  await assert.rejects(enrolMember(file, four), /at most 3 domains/);
});

test('a pool key whose signatures are under way is dropped only when its secret is out', async () => {
  const { file, keys } = await initialised();
  usePoolKey(keys, (await newPoolKey(keys)).selector);
  assert.throws(() => dropOldPoolKey(file, 'pool'), /under way until .*--at-once/);
  assert.throws(() => dropOldPoolKey(file, 'pool2', { atOnce: true }), /signs now/);
  dropOldPoolKey(file, 'pool', { atOnce: true });
  assert.deepEqual(
    poolKeys(keys).map(({ selector }) => selector),
    ['pool2'],
  );
});

test('new DKIM keys sign once DNS has them; keys that are no secret any more end at once', async (t) => {
  const { file } = await initialised();
  const dns = await DnsWorld.start({ port: 0 });
  t.after(() => dns.stop());
  writeFileSync(file, readFileSync(file, 'utf8').replace('127.0.0.1:53', `127.0.0.1:${dns.port}`));
  await enrolMember(file, { did, domains: ['reef.example'], relay: true });
  const records = await beginRotation(file, 'reef.example');
  assert.equal((await activateRotation(file, 'reef.example')).kind, 'not-published');
  for (const { name, value } of records) dns.set(name, 'TXT', [value]);
  assert.deepEqual(await activateRotation(file, 'reef.example', { atOnce: true }), { kind: 'activated' });
  const states = (await dkimStatus(file, 'reef.example')).map(
    ({ selector, state }) => `${selector} ${state}`,
  );
  assert.deepEqual(states.sort(), ['atmos2e signing', 'atmos2r signing', 'atmose retired', 'atmosr retired']);
});

test('what the last check of a domain found is a command away, before the first one too', async () => {
  const { file } = await initialised();
  await enrolMember(file, { did, domains: ['reef.example'], relay: true });
  const checks = (...args: string[]) =>
    spawnSync(process.execPath, [
      ...[join(import.meta.dirname, '../../node/atmos.js'), 'member', 'checks', ...args, '--config', file],
    ]);
  assert.equal(checks('reef.example').stdout.toString(), 'reef.example: not checked yet\n');
  assert.equal(JSON.parse(checks('reef.example', '--json').stdout.toString()).verdict, 'undecided');
  assert.match(checks('nobody.example').stderr.toString(), /nobody\.example is not enrolled/);
});
