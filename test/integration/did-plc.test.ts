/**
 * A cooperative with a did:plc: its account on a real PDS, its document at a real PLC directory, its repo written
 * by the real node.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { getServers, setServers } from 'node:dns/promises';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import { LexResolver } from '@atproto/lex-resolver';
import type { PDS } from '@atproto/pds';
import { Client } from '@did-plc/lib';
import { pino } from 'pino';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { type PlcRequest, setUpPlc } from '../../node/cli/did.ts';
import { init } from '../../node/cli/init.ts';
import { rotateLabelKey, shownLabelKeys } from '../../node/cli/label-key.ts';
import { publishLexicons } from '../../node/cli/lexicon.ts';
import { addPeer, removePeer } from '../../node/cli/peer.ts';
import { readConfig } from '../../node/config.ts';
import { readDeclared } from '../../node/cooperative/declared.ts';
import type { LabelerIdentity } from '../../node/cooperative/peer-name.ts';
import { becomeLabeler, PlcRefused } from '../../node/cooperative/plc.ts';
import { RepoAccounts } from '../../node/cooperative/repo-account.ts';
import { RepoPublisher } from '../../node/cooperative/repo-publisher.ts';
import { Node } from '../../node/node.ts';
import { openMembership } from '../../node/state.ts';
import { freePort } from '../free-port.ts';
import { DnsWorld } from '../sandbox/dns-world.ts';
import { startPds } from '../sandbox/pds.ts';
import { Plc } from '../sandbox/plc.ts';
import { counters, quiet } from '../unit/labels-fixtures.ts';
import { until } from '../until.ts';

const folder = mkdtempSync(join(tmpdir(), 'atmos-plc-'));
const file = join(folder, 'atmos.jsonc');
const program = join(import.meta.dirname, '../../node/atmos.js');
const password = 'the password of shoal';
const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: true, lookup: async () => [] });
let plc: Plc;
let pds: PDS;
let dns: DnsWorld;
let agent: AtpAgent;
let pdsUrl: string;
let web: string;

before(async () => {
  plc = await Plc.start({ file: join(folder, 'plc.jsonl'), port: 0 });
  dns = await DnsWorld.start({ port: 0 });
  const port = await freePort();
  pdsUrl = `http://localhost:${port}`;
  pds = await startPds({ folder: join(folder, 'pds'), port, plcUrl: plc.url });
  agent = new AtpAgent({ service: pdsUrl });
  await agent.createAccount({ handle: 'shoal.test', email: 'a@shoal.test', password });
  const webPort = await freePort();
  web = `http://localhost:${webPort}`;
  await init({ file, name: 'Shoal', url: web, domain: 'shoal.test', roles: ['labeler'] });
  const network = { loopbackOnly: true, plcUrl: plc.url, resolvers: [`127.0.0.1:${dns.port}`] };
  const configuration = readFileSync(file, 'utf8')
    .replace('{ "resolvers": ["127.0.0.1:53"] }', JSON.stringify(network))
    .replace('127.0.0.1:8080', `127.0.0.1:${webPort}`)
    .replace('"peers"', `"firehose": [${JSON.stringify(pdsUrl.replace('http', 'ws'))}],\n  "peers"`);
  writeFileSync(file, configuration);
});
after(async () => {
  await pds?.destroy();
  await dns?.stop();
  await plc?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Answers as the owner of the account does, who reads the token in the mail. */
function request(o: { asked: string[] } & Partial<PlcRequest>): PlcRequest {
  const answers = {
    password: async () => password,
    token: mailedToken,
    'sign-in code': async () => assert.fail('nobody asked for one'),
  };
  const secret = (what: keyof typeof answers) => {
    o.asked.push(what);
    return answers[what]();
  };
  return { pds: pdsUrl, account: 'shoal.test', records: true, secret, ...o };
}

async function mailedToken(): Promise<string> {
  const tokens = pds.ctx.accountManager.db.db.selectFrom('email_token').select('token');
  const { token } = await tokens.where('purpose', '=', 'plc_operation').executeTakeFirstOrThrow();
  return token;
}

const directory = () => new Client(plc.url);
const never: PlcRequest['secret'] = async (what) => assert.fail(`asked for the ${what}`);
const revision = async () =>
  (await agent.com.atproto.sync.getLatestCommit({ did: agent.assertDid })).data.rev;

/** Of our account, as the firehose of the PDS counts them. */
async function commits(): Promise<number> {
  const rows = pds.ctx.sequencer.db.db.selectFrom('repo_seq').select('seq');
  return (await rows.where('did', '=', agent.assertDid).where('eventType', '=', 'append').execute()).length;
}

async function recordsOf(collection: string): Promise<Map<string, Record<string, unknown>>> {
  const { data } = await agent.com.atproto.repo.listRecords({ repo: agent.assertDid, collection });
  const entries = data.records.map(({ uri, value }) => [uri.split('/').at(-1)!, value] as const);
  return new Map(entries as [string, Record<string, unknown>][]);
}

async function started(): Promise<Node> {
  const node = new Node(readConfig(file), pino({ level: 'silent' }));
  await node.start();
  return node;
}

test('a PDS that signs something else than was asked for changes nothing', async () => {
  const before = await directory().getDocumentData(agent.assertDid);
  await agent.com.atproto.identity.requestPlcOperationSignature();
  const { identity } = agent.com.atproto;
  const own = identity.signPlcOperation.bind(identity);
  identity.signPlcOperation = (input, options) =>
    own({ ...input, rotationKeys: [...before.rotationKeys, 'did:key:zQ3shunexpected'] }, options);
  const wanted = { labelKey: (await shownLabelKeys(file)).labelKey, labelerUrl: web };
  const o = { plcUrl: plc.url, fetch, did: agent.assertDid, wanted };
  await assert.rejects(
    becomeLabeler(agent, await mailedToken(), o),
    (error) => error instanceof PlcRefused && /signed something else/.test(error.message),
  );
  identity.signPlcOperation = own;
  assert.deepEqual(await directory().getDocumentData(agent.assertDid), before);
});

test('one command makes an account the cooperative: key and service are added, all else stays', async () => {
  const before = await directory().getDocumentData(agent.assertDid);
  const asked: string[] = [];
  const done = await setUpPlc(file, request({ asked }));
  assert.deepEqual(asked, ['password', 'token']);
  assert.equal(done.did, agent.assertDid);
  assert.deepEqual([done.changed, done.configured, done.rotated, done.records], [true, true, false, true]);
  const after = await directory().getDocumentData(agent.assertDid);
  assert.deepEqual(after, {
    ...before,
    verificationMethods: { ...before.verificationMethods, atproto_label: done.labelKey },
    services: { ...before.services, atproto_labeler: { type: 'AtprotoLabeler', endpoint: web } },
  });
  assert.equal(readConfig(file).did, agent.assertDid);
  assert.match(readFileSync(file, 'utf8'), /^\/\/ One cooperative/);
  const { document } = await shownLabelKeys(file);
  assert.deepEqual([document.state, document.faults], ['right', []]);
});

test('what is kept is an app password, sealed: it opens with the seal of this node alone', async () => {
  const { db, seal } = await openMembership(readConfig(file), Date.now);
  const kept = new RepoAccounts({ db, seal, now: Date.now }).get(agent.assertDid)!;
  db.close();
  assert.notEqual(kept.appPassword, password);
  assert.match(kept.appPassword, /^([a-z2-7]{4}-){3}[a-z2-7]{4}$/);
  const raw = Buffer.concat(
    ['node.db', 'node.db-wal'].map((name) => {
      try {
        return readFileSync(join(folder, 'state', name));
      } catch {
        return Buffer.alloc(0);
      }
    }),
  );
  assert.ok(!raw.includes(kept.appPassword) && !raw.includes(password));
  const limited = new AtpAgent({ service: pdsUrl });
  await limited.login({ identifier: agent.assertDid, password: kept.appPassword });
  await assert.rejects(limited.com.atproto.identity.requestPlcOperationSignature());
});

test('run again, it asks for nothing and changes nothing', async () => {
  const before = await directory().getAuditableLog(agent.assertDid);
  const text = readFileSync(file, 'utf8');
  const done = await setUpPlc(file, request({ asked: [], secret: never }));
  assert.deepEqual([done.changed, done.configured, done.rotated, done.records], [false, false, false, true]);
  assert.deepEqual(await directory().getAuditableLog(agent.assertDid), before);
  assert.equal(readFileSync(file, 'utf8'), text);
});

test('the account of another, and a DID under which labels went out, are refused before anything is asked', async () => {
  const other = new AtpAgent({ service: pdsUrl });
  await other.createAccount({ handle: 'kelp.test', email: 'a@kelp.test', password });
  await assert.rejects(
    setUpPlc(file, request({ asked: [], secret: never, account: 'kelp.test' })),
    /names did:plc:.*, and this account is did:plc:/,
  );
  const elsewhere = join(folder, 'other', 'atmos.jsonc');
  await init({ file: elsewhere, name: 'Web', url: 'http://localhost:1', domain: 'web.test' });
  const { network } = readConfig(file);
  const { db } = await openMembership(readConfig(elsewhere), Date.now);
  db.exec("INSERT INTO issued_label (uri, val, neg, cts, body) VALUES ('did:plc:x', 'v', 0, '', x'00')");
  db.close();
  const text = readFileSync(elsewhere, 'utf8');
  const local = { loopbackOnly: true, plcUrl: network.plcUrl, resolvers: ['127.0.0.1:53'] };
  const listen = /"(submission|submissions|inbound|dns)": "0\.0\.0\.0/g;
  writeFileSync(
    elsewhere,
    text
      .replace('{ "resolvers": ["127.0.0.1:53"] }', JSON.stringify(local))
      .replace(listen, '"$1": "127.0.0.1')
      .replace('"peers"', '"firehose": [],\n  "peers"'),
  );
  await assert.rejects(
    setUpPlc(elsewhere, request({ asked: [], secret: never })),
    /did:web:localhost%3A1 has issued labels already/,
  );
});

test('the node writes its declarations and its label texts, and at the next start nothing', async (t) => {
  const node = await started();
  t.after(() => node.stop());
  const service = await until('the service record', async () =>
    (await recordsOf('app.bsky.labeler.service')).get('self'),
  );
  const self = (await recordsOf('email.atmos.cooperative')).get('self')!;
  assert.deepEqual([self.name, self.poolDomain, self.labeler], ['Shoal', 'shoal.test', web]);
  const { labelValues, labelValueDefinitions } = service.policies as {
    labelValues: string[];
    labelValueDefinitions: { identifier: string; locales: { lang: string }[] }[];
  };
  for (const value of ['verified-mail-operator', 'relay-member', 'clean-sender', 'suspended-spam'])
    assert.ok(labelValues.includes(value), value);
  assert.deepEqual(
    labelValueDefinitions.map(({ identifier }) => identifier),
    labelValues,
  );
  for (const { locales } of labelValueDefinitions)
    assert.deepEqual(
      locales.map(({ lang }) => lang),
      ['en', 'de'],
    );
  // As a peer reads it, each record proved.
  const identities = new Identities({ plcUrl: plc.url, fetch, now: Date.now });
  const identity = (await identities.resolve(agent.assertDid)) as LabelerIdentity;
  const declared = await readDeclared(identity, { fetch, now: Date.now });
  assert.deepEqual([declared.source, declared.cooperative.name], ['repo', 'Shoal']);
  // Its document is at the directory, not here.
  assert.equal((await globalThis.fetch(`${web}/.well-known/did.json`)).status, 404);
  const written = await commits();
  await node.stop();
  const again = await started();
  t.after(() => again.stop());
  const peer = { name: 'did:web:dune.test', stance: 'censure' as const, evidence: [], by: 'mira' };
  await addPeer(file, peer);
  const record = await until('the record of the peer', async () =>
    (await recordsOf('email.atmos.peer')).get('did:web:dune.test'),
  );
  assert.equal(record.stance, 'censure');
  assert.equal(await commits(), written + 1, 'the start itself wrote nothing');
  await removePeer(file, { name: 'did:web:dune.test', by: 'mira' });
  await until(
    'the record is gone',
    async () => !(await recordsOf('email.atmos.peer')).has('did:web:dune.test'),
  );
});

test('what stands there already is not written again, what others put beside it stays', async () => {
  const written = await revision();
  const count = counters();
  const { db, seal } = await openMembership(readConfig(file), Date.now);
  const account = new RepoAccounts({ db, seal, now: Date.now }).get(agent.assertDid)!;
  db.close();
  const { labelerServiceRecord } = await import('../../node/cooperative/labeler-service.ts');
  const publisher = new RepoPublisher({
    account: () => account,
    wanted: () => ({ records: [labelerServiceRecord(Date.now())], whole: [] }),
    version: () => 1,
    ...{ fetch, log: quiet, count: count.count, now: Date.now },
  });
  await publisher.look();
  assert.equal(await revision(), written);
  const repo = agent.assertDid;
  const [collection, rkey] = ['app.bsky.labeler.service', 'self'];
  const { data } = await agent.com.atproto.repo.getRecord({ repo, collection, rkey });
  const theirs = { identifier: 'theirs', severity: 'inform', blurs: 'none', locales: [] };
  const policies = { labelValues: ['theirs', 'clean-sender'], labelValueDefinitions: [theirs] };
  await agent.com.atproto.repo.putRecord({
    ...{ repo, collection, rkey, record: { ...data.value, policies, reasonTypes: ['x#y'] } },
  });
  const later = new RepoPublisher({
    account: () => account,
    wanted: () => ({ records: [labelerServiceRecord(Date.now())], whole: [] }),
    version: () => 1,
    ...{ fetch, log: quiet, count: count.count, now: Date.now },
  });
  await later.look();
  assert.equal(count.of('repo_writes{update}'), 1);
  const after = (await recordsOf(collection)).get(rkey)!;
  assert.deepEqual(after.reasonTypes, ['x#y']);
  assert.equal(after.createdAt, (data.value as { createdAt: string }).createdAt);
  assert.equal((after.policies as { labelValues: string[] }).labelValues.at(-1), 'theirs');
});

test('a password that was revoked is told of and tried again later; a new one comes by the same command', async () => {
  const count = counters();
  let now = Date.now();
  const { db, seal } = await openMembership(readConfig(file), Date.now);
  const accounts = new RepoAccounts({ db, seal, now: Date.now });
  const record = { $type: 'email.atmos.cooperative', name: 'Shoal, renamed' };
  const publisher = new RepoPublisher({
    account: () => accounts.get(agent.assertDid),
    wanted: () => ({ records: [{ collection: 'email.atmos.cooperative', rkey: 'self', record }], whole: [] }),
    version: () => 1,
    ...{ fetch, log: quiet, count: count.count, now: () => now },
  });
  const { data } = await agent.com.atproto.server.listAppPasswords();
  for (const { name } of data.passwords) await agent.com.atproto.server.revokeAppPassword({ name });
  await publisher.look();
  await publisher.look();
  assert.equal(count.of('repo_writes_failed{refused}'), 1, 'not at once again');
  now += 30_000;
  await publisher.look();
  assert.equal(count.of('repo_writes_failed{refused}'), 2);
  const asked: string[] = [];
  assert.equal((await setUpPlc(file, request({ asked }))).records, true);
  assert.deepEqual(asked, ['password']);
  now += 3_600_000;
  await publisher.look();
  assert.equal((await recordsOf('email.atmos.cooperative')).get('self')!.name, 'Shoal, renamed');
  db.close();
});

test('a new label key of a did:plc signs only when the document names it', async (t) => {
  const node = await started();
  t.after(() => node.stop());
  const rotated = await rotateLabelKey(file);
  assert.equal(rotated.signs, false);
  const waits = await shownLabelKeys(file);
  assert.deepEqual([waits.labelKey, waits.waiting], [rotated.before, rotated.labelKey]);
  assert.equal(waits.document.state, 'right', 'the document still names the one that signs');
  // As a person does it: the program asks, the PDS mails, the person answers.
  const args = ['did', 'plc', '--pds', pdsUrl, '--account', 'shoal.test', '--json', '--config', file];
  const command = spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  command.stdin.write(`${password}\n`);
  command.stdin.write(`${await until('the mail with the token', () => mailedToken().catch(() => false))}\n`);
  const done = JSON.parse(await text(command.stdout)) as Awaited<ReturnType<typeof setUpPlc>>;
  assert.deepEqual([done.changed, done.rotated, done.labelKey], [true, true, rotated.labelKey]);
  const data = await directory().getDocumentData(agent.assertDid);
  assert.equal(data.verificationMethods.atproto_label, rotated.labelKey);
  const shown = await shownLabelKeys(file);
  assert.deepEqual(
    [shown.labelKey, shown.waiting, shown.document.state],
    [rotated.labelKey, undefined, 'right'],
  );
  assert.deepEqual(shown.old, { keys: [rotated.before], labels: 0 });
});

test('our lexicons stand in a repo, and what DNS lacks is named', async () => {
  const first = await publishLexicons(file);
  assert.equal(first.did, agent.assertDid);
  assert.deepEqual(first.written, first.lexicons);
  const stored = await recordsOf('com.atproto.lexicon.schema');
  assert.deepEqual([...stored.keys()].sort(), first.lexicons);
  for (const [nsid, { $type, ...schema }] of stored) {
    assert.equal($type, 'com.atproto.lexicon.schema');
    const source = join(import.meta.dirname, '../../lexicons', `${nsid.replaceAll('.', '/')}.json`);
    assert.deepEqual(schema, JSON.parse(readFileSync(source, 'utf8')));
  }
  const names = first.dns.map(({ name }) => name);
  for (const name of [
    '_lexicon.atmos.email',
    '_lexicon.cooperative.atmos.email',
    '_lexicon.listing.atmos.email',
  ])
    assert.ok(names.includes(name), name);
  assert.ok(first.dns.every(({ isRight, found }) => !isRight && found?.length === 0));
  for (const { name, value } of first.dns) dns.set(name, 'TXT', [value]);
  dns.set('_lexicon.listing.atmos.email', 'TXT', ['did=did:plc:ewvi7nxzyoun6zhxrhs64oiz']);
  const before = await revision();
  const second = await publishLexicons(file);
  assert.deepEqual(second.written, []);
  assert.equal(await revision(), before);
  assert.deepEqual(
    second.dns.filter(({ isRight }) => !isRight),
    [
      {
        name: '_lexicon.listing.atmos.email',
        value: `did=${agent.assertDid}`,
        isRight: false,
        found: ['did:plc:ewvi7nxzyoun6zhxrhs64oiz'],
      },
    ],
  );
});

test("atproto's own resolver finds them by DNS, and their repo proves them", async (t) => {
  const before = getServers();
  const ask = (servers: string[]) => {
    setServers(servers);
    // The resolver imported its functions by name.
    syncBuiltinESMExports();
  };
  t.after(() => ask(before));
  ask([`127.0.0.1:${dns.port}`]);
  dns.set('_lexicon.listing.atmos.email', 'TXT', [`did=${agent.assertDid}`]);
  const resolver = new LexResolver({
    ...{ plcDirectoryUrl: plc.url, allowHttp: true, fetch: globalThis.fetch },
  });
  for (const nsid of ['email.atmos.attestation', 'email.atmos.listing.subscribe']) {
    const { uri, lexicon } = await resolver.get(nsid);
    assert.equal(String(uri), `at://${agent.assertDid}/com.atproto.lexicon.schema/${nsid}`);
    assert.equal(lexicon.id, nsid);
  }
});

test('a command whose DNS records are missing says which, and ends with 1', async () => {
  dns.set('_lexicon.atmos.email', 'TXT', []);
  const command = spawn(process.execPath, [program, 'lexicon', 'publish', '--config', file]);
  const [said, [status]] = await Promise.all([text(command.stdout), once(command, 'exit')]);
  assert.equal(status, 1);
  assert.match(said, /0 were written now/);
  assert.ok(said.includes(`TXT\t_lexicon.atmos.email\tdid=${agent.assertDid}`));
});

test('the lexicons may stand in the repo of another account, whose password is asked for once', async () => {
  let asked = 0;
  const given = {
    ...{ pds: pdsUrl, account: 'kelp.test' },
    password: async () => {
      asked += 1;
      return password;
    },
  };
  assert.ok((await publishLexicons(file, given)).written.length > 0);
  assert.deepEqual((await publishLexicons(file, given)).written, []);
  assert.equal(asked, 1);
  const { db } = await openMembership(readConfig(file), Date.now);
  assert.equal((db.prepare('SELECT count(*) AS n FROM repo_account').get() as { n: number }).n, 1);
  db.close();
});
