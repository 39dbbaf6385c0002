import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { freeOffset, portsAt } from '../sandbox/ports.ts';

const newFolder = () => mkdtempSync(join(tmpdir(), 'sandbox-main-'));

function start(cwd: string, ...args: string[]) {
  const main = join(import.meta.dirname, '../sandbox/main.ts');
  return spawnSync(process.execPath, [main, ...args], { cwd, encoding: 'utf8', timeout: 20_000 });
}

test('a taken port ends the start with 2, before anything is written', async () => {
  const offset = await freeOffset();
  const server = createServer().listen(portsAt(offset).meadow.web, '127.0.0.1');
  await once(server, 'listening');
  const cwd = newFolder();
  const { status, stderr } = start(cwd, '--port-offset', String(offset), '--state', 'world');
  server.close();
  assert.equal(status, 2);
  assert.match(stderr, /^TCP port \d+ on 127\.0\.0\.1 is taken; .* Meadow's web pages and XRPC\.\n/);
  assert.equal(existsSync(join(cwd, 'world')), false);
});

for (const args of [
  ['--port-offset', 'ten'],
  ['--port-offset', '-1'],
  ['--port-offset', '60000'],
  ['--fast'],
  ['now'],
]) {
  test(`${args.join(' ')} is refused with the usage`, () => {
    const { status, stderr } = start(newFolder(), ...args);
    assert.equal(status, 2);
    assert.match(stderr, /\nUsage: npm start -- /);
  });
}

test('where a configuration is, the real node starts and its refusal is passed on', () => {
  const cwd = newFolder();
  writeFileSync(join(cwd, 'atmos.jsonc'), '{ "nme": 1 }');
  const { status, stderr } = start(cwd);
  assert.equal(status, 2);
  assert.match(stderr, /atmos\.jsonc:1:3: unknown key "nme"/);
});
