import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { importFaults, readGraph } from '../check/imports.ts';

const root = join(import.meta.dirname, '..', '..');

test('the tree obeys the direction of imports and has no circle', () => {
  assert.deepEqual(importFaults(readGraph()), []);
});

const broken: [name: string, graph: [string, string[]][], says: RegExp][] = [
  [
    'an import against the direction',
    [
      ['dnsbl/a.ts', ['node/b.ts']],
      ['node/b.ts', []],
    ],
    /dnsbl never imports node/,
  ],
  [
    'an import of a test',
    [
      ['node/a.ts', ['test/b.ts']],
      ['test/b.ts', []],
    ],
    /node never imports test/,
  ],
  [
    'an import through a wall',
    [
      ['node/relay/a.ts', ['node/delivery/b.ts']],
      ['node/delivery/b.ts', []],
    ],
    /node\/relay never imports/,
  ],
  [
    'a circle',
    [
      ['node/a.ts', ['node/b.ts']],
      ['node/b.ts', ['node/a.ts']],
    ],
    /circle: node\/a\.ts → node\/b\.ts → node\/a\.ts/,
  ],
  ['a missing file', [['node/a.ts', ['node/b.ts']]], /which is not there/],
];
for (const [name, graph, says] of broken) {
  test(`${name} is found`, () => {
    assert.match(importFaults(new Map(graph)).join('\n'), says);
  });
}

/** The packages on which this project stands; each has its job in production code, not only in tests. */
const required = [
  ...['smtp-server', 'nodemailer', 'mailauth', '@atproto/api', '@atproto/xrpc-server'],
  ...['@atproto/crypto', 'dns2', 'libsql', 'ws', 'fastify'],
];
const production = globSync('{node,appview,dnsbl}/**/*.ts', { cwd: root })
  .map((file) => readFileSync(join(root, file), 'utf8'))
  // A type-only import is no job.
  .map((text) => text.replace(/import type [^;]*;|typeof import\([^)]*\)/g, ''));

for (const name of required) {
  test(`${name} is imported by production code`, () => {
    const imported = new RegExp(`(from|import|import\\(|require\\()\\s*'${name}(/[^']*)?'`);
    assert.ok(production.some((text) => imported.test(text)));
  });
}

test('all versions are exact, and the lock file names no download address', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.match(String(version), /^\d+\.\d+\.\d+$/, name);
  }
  assert.doesNotMatch(readFileSync(join(root, 'package-lock.json'), 'utf8'), /"resolved"/);
});

test('the lock file is whole: every optional package of every platform is in it', () => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  const names = new Set(
    Object.keys(packages).map((path) => path.slice(path.lastIndexOf('node_modules/') + 13)),
  );
  const missing = Object.values(packages)
    .flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
    .filter((name) => !names.has(name));
  // npm ci refuses a lock file with a gap, on every machine.
  assert.deepEqual(missing, []);
});
