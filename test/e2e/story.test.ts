/**
 * The whole sandbox through its public ports: real PDS, real PLC directory, two nodes as processes of
 * their own. What the story tells, in both directions, and then what must not happen.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { AtpAgent } from '@atproto/api';
import { createTransport } from 'nodemailer';
import { WebSocket } from 'ws';
import { attest, withdraw } from '../../node/members/attest.ts';
import { addressOf, textOf } from '../ask-dns.ts';
import { keyNames, verifyWithDkimpy } from '../dkimpy.ts';
import { needs } from '../peers.ts';
import { freeOffset } from '../sandbox/ports.ts';
import { type Sandbox, startSandbox } from '../sandbox/sandbox.ts';
import type { World } from '../sandbox/world.ts';
import { until } from '../until.ts';

const run = promisify(execFile);
const atmos = join(import.meta.dirname, '../../node/atmos.js');
const folder = mkdtempSync(join(tmpdir(), 'atmos-e2e-'));
let sandbox: Sandbox;
let world: World;

before(async () => {
  sandbox = await startSandbox({ folder, portOffset: await freeOffset() });
  world = sandbox.world;
});
after(async () => {
  await sandbox?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const cooperative = (name: string) => world.cooperatives.find((one) => one.name === name)!;
const member = (handle: string) => world.members.find((one) => one.handle === handle)!;
const answer = (at: string, domain: string) => {
  const { dns } = cooperative(at);
  return addressOf(dns, `${domain}.dom.${dns.apex}`);
};
const gone = (at: string, domain: string) => {
  // Above a listed name there is an empty non-terminal (RFC 8020): reef.test stays one for news.reef.test.
  const expected = domain === 'reef.test' ? 'NODATA' : 'NXDOMAIN';
  return until(`${domain} out of ${at}'s list`, async () => (await answer(at, domain)) === expected);
};
const listed = (at: string, domain: string) =>
  until(`${domain} in ${at}'s list`, async () => (await answer(at, domain)) === '127.0.3.1');

function transport(at: string, user: string, pass: string) {
  const { host, port } = cooperative(at).submission;
  return createTransport({
    host,
    port,
    requireTLS: true,
    tls: { rejectUnauthorized: false },
    auth: { user, pass },
  });
}

/** The code and text of the refusal. */
async function refusal(sending: Promise<unknown>): Promise<string> {
  try {
    await sending;
  } catch (error) {
    return (error as { response?: string }).response ?? String(error);
  }
  return assert.fail('it was accepted');
}

async function postSend(at: string, did: string, key: string, from: string) {
  const response = await fetch(`${cooperative(at).web}/v1/send`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-atmos-did': did, authorization: `Bearer ${key}` },
    body: JSON.stringify({ from, to: 'you@inbox.test', subject: 'over HTTP', text: 'hello' }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

for (const [domain, home, neighbour] of [
  ['reef.test', 'harbor', 'meadow'],
  ['news.reef.test', 'harbor', 'meadow'],
  ['orchard.test', 'meadow', 'harbor'],
] as const) {
  test(`${domain} of ${home} is vouched for at both, and the TXT says who, and where to read why`, async () => {
    for (const at of [home, neighbour]) {
      assert.equal(await answer(at, domain), '127.0.3.1');
      const { dns, web } = cooperative(at);
      const text = (await textOf(dns, `${domain}.dom.${dns.apex}`)) ?? '';
      assert.match(text, /did:plc:[a-z2-7]{24}/);
      assert.ok(text.includes(cooperative(home).did), text);
      assert.ok(text.includes(`${web}/listing/${domain}`), text);
    }
  });
}

test('dig hears the same over UDP and TCP', { skip: needs('dig') }, async () => {
  const { dns } = cooperative('meadow');
  for (const transportFlag of ['+notcp', '+tcp']) {
    const { stdout } = await run('dig', [
      ...[`@${dns.host}`, '-p', String(dns.port), '+short', transportFlag],
      `reef.test.dom.${dns.apex}`,
    ]);
    assert.equal(stdout.trim(), '127.0.3.1');
  }
});

test('the page behind the TXT names the record, its version and the voter', async () => {
  const { web } = cooperative('meadow');
  const response = await fetch(`${web}/listing/reef.test`);
  const page = await response.text();
  assert.equal(response.status, 200);
  assert.ok(page.includes(`at://${member('reef.test').did}/email.atmos.attestation/reef.test`));
  assert.ok(page.includes(cooperative('harbor').did));
  assert.equal((await fetch(`${web}/listing/nobody.test`)).status, 404);
});

for (const [from, home, to] of [
  ['reef.test', 'harbor', 'someone@orchard.test'],
  ['orchard.test', 'meadow', 'someone@reef.test'],
] as const) {
  test(`swaks sends from ${from} through ${home} to ${to}, and dkimpy verifies all three signatures`, {
    skip: needs('swaks', 'python3-dkim'),
  }, async () => {
    const { handle, apiKey } = member(from);
    const { submission, poolDomain } = cooperative(home);
    const subject = `by swaks from ${from}`;
    const { stdout } = await run('swaks', [
      ...['--server', `${submission.host}:${submission.port}`, '--tls', '--auth', 'PLAIN'],
      ...['--auth-user', handle, '--auth-password', apiKey],
      ...['--from', `hello@${from}`, '--to', to, '--h-Subject', subject],
    ]);
    assert.match(stdout, /250 2\.0\.0 queued as [0-9a-z]{16}/);
    const caught = await sandbox.inbox.waitFor((message) => message.subject === subject, 10_000);
    assert.deepEqual(caught.to, [to]);
    assert.ok(caught.tls, 'it came over STARTTLS');
    const records: Record<string, string> = {};
    for (const name of keyNames(caught.raw)) records[name] = (await textOf(world.resolver, name)) ?? '';
    assert.deepEqual(await verifyWithDkimpy(caught.raw, records), [
      ...[`${poolDomain} rsa-sha256 True`, `${from} ed25519-sha256 True`, `${from} rsa-sha256 True`].sort(),
    ]);
  });
}

test('POST /v1/send takes the same road', async () => {
  const { did, apiKey } = member('reef.test');
  const { status, body } = await postSend('harbor', did, apiKey, 'hello@news.reef.test');
  assert.equal(status, 200, JSON.stringify(body));
  const [accepted] = body.accepted as { recipient: string; messageId: string }[];
  assert.equal(accepted?.recipient, 'you@inbox.test');
  const caught = await sandbox.inbox.waitFor(({ from }) => from === 'hello@news.reef.test', 10_000);
  assert.ok(caught.raw.includes(accepted!.messageId));
});

test("Reef's key at Meadow is 535 and 401; nobody sends as another's domain, over SMTP or HTTP", async () => {
  const reef = member('reef.test');
  const orchard = member('orchard.test');
  const mail = { from: 'x@reef.test', to: 'you@inbox.test', subject: 'forged', text: 'x' };
  assert.match(await refusal(transport('meadow', reef.handle, reef.apiKey).sendMail(mail)), /^535 5\.7\.8 /);
  const asOrchard = transport('meadow', orchard.handle, orchard.apiKey);
  assert.match(await refusal(asOrchard.sendMail(mail)), /^550 5\.1\.0 /);
  const envelope = { from: 'x@orchard.test', to: 'you@inbox.test' };
  assert.match(
    await refusal(asOrchard.sendMail({ ...mail, envelope })),
    /^550 5\.1\.0 /,
    'header From alone',
  );

  const wrongKey = await postSend('meadow', reef.did, reef.apiKey, 'x@reef.test');
  assert.deepEqual([wrongKey.status, wrongKey.body.code], [401, 'AUTH_FAILED']);
  const wrongFrom = await postSend('meadow', orchard.did, orchard.apiKey, 'x@reef.test');
  assert.deepEqual([wrongFrom.status, wrongFrom.body.code], [403, 'DOMAIN_MISMATCH']);
});

test('port 25 takes nothing', async () => {
  const { inbound } = cooperative('harbor');
  const mail = { from: 'x@else.test', to: 'someone@reef.test', subject: 'in', text: 'x' };
  const toPort25 = createTransport({ ...inbound, tls: { rejectUnauthorized: false } });
  assert.match(await refusal(toPort25.sendMail(mail)), /^550 5\.1\.1 /);
});

test('mail to a recipient that is refused comes back as a DSN to the forward-to', async () => {
  // Outside .test the DNS world knows no name.
  const { handle, apiKey } = member('reef.test');
  const mail = { from: 'bounced@reef.test', to: 'x@nowhere.example', subject: 'will bounce', text: 'x' };
  await transport('harbor', handle, apiKey).sendMail(mail);
  const dsn = await sandbox.inbox.waitFor(
    ({ mailFrom, raw }) => mailFrom === '' && raw.includes('nowhere.example'),
    20_000,
  );
  assert.match(dsn.raw.toString(), /multipart\/report/);
  assert.ok(
    (await dsn.signatures).every(({ domain, result }) => domain === 'harbor.test' && result === 'pass'),
  );
});

test('a stranger who attests a domain that nobody verified is not in the zone', async () => {
  const agent = new AtpAgent({ service: world.pds });
  await agent.createAccount({ handle: 'stranger.test', email: 's@stranger.test', password: 'stranger-pass' });
  const credentials = { pds: world.pds, identifier: 'stranger.test', password: 'stranger-pass' };
  await attest({ ...credentials, domain: 'stranger.test', selectors: ['s1'], relayMember: true });
  await attest({ ...credentials, domain: 'orchard.test', selectors: ['s1'], relayMember: true });
  // What comes behind it on the same firehose has arrived, so it was read too.
  await attestAgain('reef.test');
  for (const at of ['harbor', 'meadow']) {
    assert.equal(await answer(at, 'stranger.test'), 'NXDOMAIN');
    assert.equal(
      await answer(at, 'orchard.test'),
      '127.0.3.1',
      'a claim without a vote competes with nobody',
    );
  }
});

test('an invalid update of a listed record unlists it, a valid one lists it again', async () => {
  const reef = member('reef.test');
  const agent = new AtpAgent({ service: world.pds });
  await agent.login({ identifier: reef.did, password: reef.password });
  await agent.com.atproto.repo.putRecord({
    ...{ repo: reef.did, collection: 'email.atmos.attestation', rkey: 'news.reef.test', validate: false },
    record: {
      $type: 'email.atmos.attestation',
      domain: 'other.test',
      dkimSelectors: ['x'],
      createdAt: 'today',
    },
  });
  await gone('harbor', 'news.reef.test');
  await gone('meadow', 'news.reef.test');
  await attestAgain('news.reef.test');
});

test('a record that one commit updates and deletes is gone', async () => {
  const { did, password } = member('reef.test');
  const agent = new AtpAgent({ service: world.pds });
  await agent.login({ identifier: did, password });
  const about = { collection: 'email.atmos.attestation', rkey: 'news.reef.test' };
  const createdAt = new Date().toISOString();
  const value = { $type: about.collection, domain: about.rkey, dkimSelectors: ['atmosr'], createdAt };
  await agent.com.atproto.repo.applyWrites({
    repo: did,
    validate: false,
    writes: [
      { $type: 'com.atproto.repo.applyWrites#update', ...about, value },
      { $type: 'com.atproto.repo.applyWrites#delete', ...about },
    ],
  });
  for (const at of ['harbor', 'meadow']) await gone(at, 'news.reef.test');
  await attestAgain('news.reef.test');
});

test('a deleted attestation is out of the zone within a second of its commit on the firehose', async () => {
  const { did, password } = member('orchard.test');
  const firehose = new WebSocket(`${world.pds.replace('http', 'ws')}/xrpc/com.atproto.sync.subscribeRepos`);
  await once(firehose, 'open');
  const frame = once(firehose, 'message').then(() => performance.now());
  await withdraw({ pds: world.pds, identifier: did, password, domain: 'orchard.test' });
  const committed = await frame;
  firehose.close();
  for (const at of ['harbor', 'meadow']) await gone(at, 'orchard.test');
  const ms = performance.now() - committed;
  assert.ok(ms < 1_000, `gone after ${ms} ms`);
  await attestAgain('orchard.test');
});

test('a DMARC record that breaks is seen at the next check: negated and unlisted everywhere', async () => {
  const configFile = sandbox.cooperatives.harbor.configFile;
  const { stdout } = await atmosCommand('member', 'dns', 'reef.test', '--config', configFile, '--json');
  const records = JSON.parse(stdout) as { name: string; value: string }[];
  const dmarc = records.find(({ name }) => name === '_dmarc.reef.test')!;
  sandbox.zone.set(dmarc.name, 'TXT', ['v=DMARC1; p=none']);
  await atmosCommand('member', 'check', 'reef.test', '--config', configFile);
  for (const at of ['harbor', 'meadow']) await gone(at, 'reef.test');
  sandbox.zone.set(dmarc.name, 'TXT', [dmarc.value]);
  for (const at of ['harbor', 'meadow']) await listed(at, 'reef.test');
});

test('a relay killed between 250 and delivery delivers after its restart, and every signature verifies', async () => {
  const { handle, apiKey } = member('reef.test');
  const { port } = world.inbox.smtp;
  // A destination that lets the relay connect and then says nothing: the delivery is under way for sure.
  const silent = createServer();
  const connected = once(silent, 'connection');
  await once(silent.listen(port, '127.0.0.77'), 'listening');
  sandbox.zone.set('slow.test', 'MX', ['10 mx.slow.test']);
  sandbox.zone.set('mx.slow.test', 'A', ['127.0.0.77']);
  const mail = { from: 'hello@reef.test', to: 'x@slow.test', subject: 'survives a kill', text: 'still here' };
  const { response } = await transport('harbor', handle, apiKey).sendMail(mail);
  assert.match(response, /^250 2\.0\.0 queued as /);
  const [socket] = await connected;
  await sandbox.cooperatives.harbor.kill('SIGKILL');
  socket.destroy();
  silent.close();

  sandbox.zone.set('mx.slow.test', 'A', ['127.0.0.1']);
  await sandbox.cooperatives.harbor.start();
  const caught = await sandbox.inbox.waitFor(({ subject }) => subject === mail.subject, 20_000);
  const verdicts = (await caught.signatures).map(
    ({ domain, algorithm, result }) => `${domain} ${algorithm} ${result}`,
  );
  assert.deepEqual(verdicts.sort(), [
    'harbor.test rsa-sha256 pass',
    'reef.test ed25519-sha256 pass',
    'reef.test rsa-sha256 pass',
  ]);
});

test('after the restart Harbor still lists everyone and follows what comes', async () => {
  assert.equal(await answer('harbor', 'orchard.test'), '127.0.3.1');
  await attestAgain('orchard.test');
});

test('an account that is deactivated is unlisted, and listed again when it comes back', async () => {
  const { did, password } = member('orchard.test');
  const agent = new AtpAgent({ service: world.pds });
  await agent.login({ identifier: did, password });
  await agent.com.atproto.server.deactivateAccount({});
  for (const at of ['harbor', 'meadow']) await gone(at, 'orchard.test');
  await agent.com.atproto.server.activateAccount();
  for (const at of ['harbor', 'meadow']) await listed(at, 'orchard.test');
});

test('nothing secret is in the logs', async () => {
  const { stdout } = await run('cat', [join(folder, 'harbor/node.log'), join(folder, 'meadow/node.log')]);
  for (const { apiKey, password } of world.members) {
    assert.ok(!stdout.includes(apiKey) && !stdout.includes(password));
  }
});

/** Writes a new version of the record and waits until both cooperatives list that version. */
async function attestAgain(domain: string): Promise<void> {
  const owner = world.members.find(({ domains }) => domains.includes(domain))!;
  const { cid } = await attest({
    ...{ pds: world.pds, identifier: owner.did, password: owner.password, domain, relayMember: true },
    selectors: ['atmosr', 'atmose'],
  });
  for (const { appview } of world.cooperatives) {
    await until(`${domain} listed at version ${cid}`, async () => {
      const response = await fetch(`${appview}/xrpc/email.atmos.listing.get?domain=${domain}`);
      const found = (await response.json()) as { attestation?: { cid: string }; listing?: { kind: number } };
      return found.attestation?.cid === cid && found.listing?.kind === 3;
    });
  }
}

function atmosCommand(...args: string[]): Promise<{ stdout: string }> {
  return run(process.execPath, [atmos, ...args]);
}
