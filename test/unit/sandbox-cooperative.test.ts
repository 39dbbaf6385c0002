import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkConfig } from '../../node/config.ts';
import { cooperatives } from '../sandbox/cast.ts';
import { configurationOf } from '../sandbox/configuration.ts';
import { Cooperative } from '../sandbox/cooperative.ts';
import { portsAt } from '../sandbox/ports.ts';

const [harbor, meadow] = cooperatives as [(typeof cooperatives)[number], (typeof cooperatives)[number]];

/** A node that is a few lines: it logs its arguments, then does what the test wants. */
function nodeThat(
  does: string,
  o: { onEnd?: (reason: string) => void; readyTimeoutMs?: number; stopTimeoutMs?: number } = {},
) {
  const folder = mkdtempSync(join(tmpdir(), 'cooperative-'));
  const program = join(folder, 'node.mjs');
  const logFile = join(folder, 'node.log');
  writeFileSync(program, `console.log(process.argv.slice(2).join(' '));\n${does}\n`);
  const configFile = join(folder, 'atmos.jsonc');
  const node = new Cooperative({ cast: harbor, configFile, logFile, program, onEnd: () => undefined, ...o });
  return { node, logFile, configFile };
}

const stays =
  "process.send('ready'); setInterval(() => {}, 1000); process.on('disconnect', () => process.exit());";

test('a node is started with its configuration, is ready when it says so, and stops when asked', async () => {
  const { node, logFile, configFile } = nodeThat(stays);
  await node.start();
  const pid = node.pid!;
  assert.ok(isAlive(pid));
  assert.equal(readFileSync(logFile, 'utf8'), `start --config ${configFile}\n`);
  await node.stop();
  assert.equal(isAlive(pid), false);
  assert.equal(node.pid, undefined);
  await node.stop();
});

test('a node that ends before it is ready fails the start with its last words', async () => {
  const { node, logFile } = nodeThat("console.error('the port is taken'); process.exit(3);");
  await assert.rejects(node.start(), (error: Error) => {
    assert.match(error.message, /^Harbor did not start: exit code 3\n/);
    assert.match(error.message, / {2}the port is taken\n/);
    assert.ok(error.message.includes(logFile));
    return true;
  });
  assert.equal(node.pid, undefined);
});

test('a node that is never ready is given up, and gone', async () => {
  const { node } = nodeThat('setInterval(() => {}, 1000);', { readyTimeoutMs: 200 });
  const starting = node.start();
  const pid = node.pid!;
  await assert.rejects(starting, /not ready after 200 ms/);
  assert.equal(isAlive(pid), false);
});

test('a start is given up when it is no longer wanted', async () => {
  const { node } = nodeThat('setInterval(() => {}, 1000);');
  const wish = new AbortController();
  const starting = node.start(wish.signal);
  wish.abort();
  await assert.rejects(starting, /Harbor did not start: stopped/);
  assert.equal(node.pid, undefined);
});

test('a killed node can be started again, and its death was asked for', async () => {
  const { node } = nodeThat(stays, { onEnd: assert.fail });
  await node.start();
  const first = node.pid!;
  await node.kill('SIGKILL');
  assert.equal(isAlive(first), false);
  await node.start();
  assert.notEqual(node.pid, first);
  await node.stop();
});

test('a node that ends by itself is reported', async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const { node } = nodeThat(
    "process.send('ready', () => { console.log('disk full'); process.exitCode = 1; process.disconnect(); });",
    {
      onEnd: resolve,
    },
  );
  await node.start();
  assert.match(await promise, /^Harbor has ended \(exit code 1\)\n(.*\n)* {2}disk full/);
});

test('a node that ignores SIGTERM is killed', async () => {
  const { node } = nodeThat(`process.on('SIGTERM', () => {}); ${stays}`, { stopTimeoutMs: 50 });
  await node.start();
  const pid = node.pid!;
  await node.stop();
  assert.equal(isAlive(pid), false);
});

for (const warming of [false, true]) {
  test(`the node accepts both configurations${warming ? ' of a cold start' : ''}`, () => {
    const read = (cast: typeof harbor) =>
      checkConfig(configurationOf(cast, portsAt(100), { warming }), `/world/${cast.key}/atmos.jsonc`);
    const [one, other] = [read(harbor), read(meadow)];
    assert.equal(one.did, 'did:web:localhost%3A8180');
    assert.deepEqual(one.peers, [{ did: other.did, stance: 'guarantee' }]);
    assert.deepEqual(other.peers, [{ did: one.did, stance: 'guarantee' }]);
    assert.equal(one.stateDir, '/world/harbor/state');
    assert.equal(one.network.loopbackOnly, true);
    assert.deepEqual([one.caps.warmingDays, one.listing.newcomerDays], warming ? [14, 14] : [0, 0]);
    const differing = Object.keys(one).filter(
      (key) => JSON.stringify(one[key as 'name']) !== JSON.stringify(other[key as 'name']),
    );
    const expected = [
      'did',
      'dns',
      'domain',
      'file',
      'hostname',
      'labelerUrl',
      'listen',
      'name',
      'peers',
      'publicUrl',
      'stateDir',
    ];
    assert.deepEqual(differing.toSorted(), expected);
  });
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
