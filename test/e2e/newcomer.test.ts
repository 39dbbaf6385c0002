/**
 * A third cooperative, freshly initialised, joins the sandbox while it runs: by one command at Harbor, which undoes
 * it as well. Real processes, a real PDS and PLC directory; looked at from outside, by label streams, lists and DNS.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { openDatabase } from '../../appview/database.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { addressOf, textOf } from '../ask-dns.ts';
import { type Newcomer, startNewcomer } from '../sandbox/newcomer.ts';
import { freeOffset, probeNewcomer } from '../sandbox/ports.ts';
import { type Sandbox, startSandbox } from '../sandbox/sandbox.ts';
import { publish } from '../sandbox/zone-data.ts';
import { until } from '../until.ts';

const run = promisify(execFile);
const atmos = join(import.meta.dirname, '../../node/atmos.js');
const folder = mkdtempSync(join(tmpdir(), 'atmos-join-'));
/** What the issue allows; it takes about a second. */
const withinMs = 60_000;
let sandbox: Sandbox;
let dune: Newcomer;

before(async () => {
  let portOffset: number;
  do portOffset = await freeOffset();
  while ((await probeNewcomer(portOffset)).length > 0);
  sandbox = await startSandbox({ folder, portOffset });
  const world = sandbox.world;
  dune = await startNewcomer({ folder, portOffset, world, publish: (sets) => publish(sandbox.zone, sets) });
});
after(async () => {
  await dune?.node.stop();
  await sandbox?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const cooperative = (name: string) => sandbox.world.cooperatives.find((one) => one.name === name)!;
const configOf = (name: 'harbor' | 'meadow') => ['--config', sandbox.cooperatives[name].configFile];
const answer = (domain: string, at = 'harbor') => {
  const { dns } = cooperative(at);
  return addressOf(dns, `${domain}.dom.${dns.apex}`);
};

/** `atmos peer …` with `--json`. */
async function peer<T = Record<string, unknown>>(...args: string[]): Promise<T> {
  const { stdout } = await run(process.execPath, [atmos, 'peer', ...args, ...configOf('harbor'), '--json']);
  return JSON.parse(stdout) as T;
}

async function refusal(...args: string[]): Promise<string> {
  try {
    await peer(...args);
  } catch (error) {
    return (error as { stderr: string }).stderr;
  }
  return assert.fail('it was done');
}

async function listing(domain: string, at = 'harbor') {
  const url = `${cooperative(at).appview}/xrpc/email.atmos.listing.get?domain=${domain}`;
  return (await (await fetch(url)).json()) as {
    listing?: { kind: number; vouchers: string[] };
    votes?: { issuer: string; label: { src: string; val: string } }[];
  };
}

async function declaredPeers(at: string): Promise<string[]> {
  const { decode } = await import('@atproto/lex-cbor');
  const url = `${cooperative(at).labeler}/xrpc/email.atmos.cooperative.getDeclaration`;
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  return (decode(bytes) as { peers: { subject: string }[] }).peers.map(({ subject }) => subject);
}

test('before anybody adds it, what the third cooperative says of its member counts nowhere', async () => {
  const { domain } = dune.member;
  await until('its own list', async () => (await listingAtDune(domain)) === 3);
  assert.equal(await answer(domain), 'NXDOMAIN');
  assert.equal((await listing(domain)).listing, undefined);
});

async function listingAtDune(domain: string): Promise<number | undefined> {
  const answered = await fetch(`${dune.world.appview}/xrpc/email.atmos.listing.get?domain=${domain}`);
  return ((await answered.json()) as { listing?: { kind: number } }).listing?.kind;
}

test('a person is shown what will be trusted, and nothing happens without a yes', async () => {
  const shown = await new Promise<string>((resolve) => {
    // No terminal and no --yes: the command refuses before it asks anybody.
    const child: ChildProcess = spawn(process.execPath, [
      atmos,
      'peer',
      'add',
      dune.name,
      ...configOf('harbor'),
    ]);
    const chunks: string[] = [];
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (chunk) => chunks.push(`${chunk}`));
    child.on('close', () => resolve(chunks.join('')));
  });
  assert.match(shown, /nobody is there to say yes/);
  assert.deepEqual(
    (await peer<{ did: string }[]>('list')).map(({ did }) => did),
    [cooperative('meadow').did],
  );
});

test('peer add brings labels, listing and DNS answer within 60 s', async (t) => {
  const { domain } = dune.member;
  const began = performance.now();
  const { stdout } = await run(process.execPath, [
    atmos,
    'peer',
    'add',
    dune.name,
    '--yes',
    ...configOf('harbor'),
  ]);
  for (const said of ['Dune', dune.world.did, 'dune.test', '1 vote on 1 domain', 'you answer for it'])
    assert.ok(stdout.includes(said), `${said} in ${stdout}`);
  await until(`${domain} in Harbor's DNS`, async () => (await answer(domain)) === '127.0.3.1', withinMs);
  t.diagnostic(`from the command to the DNS answer: ${Math.round(performance.now() - began)} ms`);
  const { listing: listed, votes } = await listing(domain);
  assert.deepEqual(listed?.vouchers, [dune.world.did]);
  assert.deepEqual(
    votes?.map(({ issuer, label }) => [issuer, label.src]),
    [[dune.world.did, dune.world.did]],
  );
  const { dns } = cooperative('harbor');
  assert.ok((await textOf(dns, `${domain}.dom.${dns.apex}`))?.includes(dune.world.did));
  const { stance, status } = await peer<{ stance: string; status: { state: string; cursor: number } }>(
    'show',
    dune.name,
  );
  assert.deepEqual([stance, status.state], ['guarantee', 'following']);
  assert.ok(status.cursor > 0);
});

test('the peer is in our declaration and on our page, and nowhere at Meadow', async () => {
  assert.deepEqual(await declaredPeers('harbor'), [cooperative('meadow').did, dune.world.did]);
  const page = await (await fetch(cooperative('harbor').web)).text();
  assert.ok(page.includes(dune.world.did));
  assert.equal(await answer(dune.member.domain, 'meadow'), 'NXDOMAIN');
  assert.deepEqual(await declaredPeers('meadow'), [cooperative('harbor').did]);
});

test('the same peer again, ourselves, and a stranger without a declaration are refused with the reason', async () => {
  assert.match(await refusal('add', dune.name, '--yes'), /already, with the stance guarantee/);
  assert.match(await refusal('add', cooperative('meadow').did, '--yes'), /the configuration has it/);
  assert.match(await refusal('add', cooperative('harbor').did, '--yes'), /is this cooperative/);
  assert.match(await refusal('add', 'nobody.test', '--yes'), /nobody\.test was not found/);
  assert.match(await refusal('remove', cooperative('meadow').did), /stands in the configuration/);
});

test('another stance unlists at once, and a guarantee lists again', async () => {
  await peer('stance', dune.name, 'hesitate', '--reason', 'too new');
  assert.equal(await answer(dune.member.domain), 'NXDOMAIN');
  await peer('stance', dune.name, 'guarantee');
  assert.equal(await answer(dune.member.domain), '127.0.3.1');
});

test('a peer that was added is one after a restart of the node too', async () => {
  await sandbox.cooperatives.harbor.stop();
  assert.match(
    JSON.stringify(await peer<object[]>('list')),
    new RegExp(dune.world.did),
    'also while no node runs',
  );
  await sandbox.cooperatives.harbor.start();
  await until('listed again', async () => (await answer(dune.member.domain)) === '127.0.3.1', withinMs);
});

test('peer remove undoes it: when the command returns the name is out of DNS, and other names are not', async () => {
  await peer('remove', dune.name, '--reason', 'only a visit');
  assert.equal(await answer(dune.member.domain), 'NXDOMAIN');
  assert.equal((await listing(dune.member.domain)).listing, undefined);
  assert.equal(await answer('reef.test'), '127.0.3.1');
  assert.equal(await answer('orchard.test'), '127.0.3.1');
  assert.deepEqual(await declaredPeers('harbor'), [cooperative('meadow').did]);
  assert.match(await refusal('show', dune.name), /no peer of ours/);
});

test('added again it begins anew', async () => {
  await peer('add', dune.name, '--yes');
  await until('listed again', async () => (await answer(dune.member.domain)) === '127.0.3.1', withinMs);
});

test('with no node running a peer is added for the next start', async () => {
  await peer('remove', dune.name);
  await sandbox.cooperatives.harbor.stop();
  const { stdout } = await run(process.execPath, [
    atmos,
    'peer',
    'add',
    dune.name,
    '--yes',
    ...configOf('harbor'),
  ]);
  assert.match(stdout, /counts from the next start/);
  await sandbox.cooperatives.harbor.start();
  await until('listed again', async () => (await answer(dune.member.domain)) === '127.0.3.1', withinMs);
});

test('what the running node did is on the record with who did it, and nothing failed in its log', async () => {
  const db = openDatabase(join(folder, 'harbor/state/node.db'), nodeMigrations, { synchronous: 'NORMAL' });
  const rows = db.prepare("SELECT detail FROM event WHERE type = 'staff_act' ORDER BY id").all();
  db.close();
  const acts = (rows as { detail: string }[]).map(
    ({ detail }) => JSON.parse(detail) as Record<string, string>,
  );
  const stances = ['peer_added', 'peer_stance', 'peer_stance'];
  assert.deepEqual(
    acts.map(({ act }) => act),
    [...stances, 'peer_removed', 'peer_added', 'peer_removed'],
  );
  assert.ok(acts.every(({ peer: did, by, actor }) => did === dune.world.did && by === 'person' && actor));
  assert.equal(acts.find(({ act }) => act === 'peer_removed')!.reason, 'only a visit');
  const log = readFileSync(join(folder, 'harbor/node.log'), 'utf8');
  assert.doesNotMatch(log, /"level":[56]0/);
});
