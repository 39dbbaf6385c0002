/** What deploy/mta/README.md shows on its consoles is what dig says. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { needs } from '../peers.ts';
import { openWorld } from './consumers/cast.ts';
import { snippet } from './consumers/snippets.ts';

const run = promisify(execFile);

test('every dig in the README for mail administrators says what stands there', {
  skip: needs('dig', 'unbound'),
}, async (t) => {
  const world = await openWorld();
  t.after(() => world.close());
  const to = ['@127.0.0.1', '-p', `${world.resolver.port}`];
  const consoles = [...snippet('README.md').matchAll(/^```console\n(.*?)^```$/gms)].map(([, text]) => text!);
  const shown = consoles.flatMap((text) => text.split(/^\$ /m).slice(1));
  assert.ok(shown.length >= 7);
  for (const example of shown) {
    const [command, ...says] = example.trimEnd().split('\n');
    const [program, ...args] = command!.split(' ');
    assert.equal(program, 'dig');
    assert.equal((await run('dig', [...to, ...args])).stdout.trimEnd(), says.join('\n'), command);
  }
});
