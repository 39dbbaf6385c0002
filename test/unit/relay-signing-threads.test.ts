import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import pino from 'pino';
import { type Signing, SigningThreads } from '../../node/relay/signing-threads.ts';
import { until } from '../until.ts';
import { memberKeys, poolKey } from './signing-fixtures.ts';

const log = pino({ enabled: false });
const script = new URL('./signing-mortal-worker.ts', import.meta.url);
const signer = { ...poolKey, number: 1, key: createPrivateKey(poolKey.privateKey) };
const header = 'From: a@reef.test\r\n';

function signing(prefix: string, body = 'x\r\n'): Signing {
  const message = Buffer.from(`${header}\r\n${body}`);
  const o = { message, headerEnd: header.length, bodyStart: header.length + 2, at: 1, expiresAt: 2 };
  return { ...o, prefixes: [Buffer.from(prefix)], signers: [signer] };
}

test('a thread that dies fails its messages, and another takes the next', async () => {
  const threads = new SigningThreads({ threads: 1, log, script, restartMs: 0 });
  const dying = () => threads.sign(signing('X-Dies: exit\r\n'));
  for (const answer of await Promise.all([dying(), dying()]))
    assert.deepEqual(answer, { kind: 'failed', reason: 'the signing thread died' });
  assert.equal((await threads.sign(signing('X-Lives: yes\r\n'))).kind, 'signed');
  await threads.close();
});

test('while one thread may not start again, the other takes all', async () => {
  const threads = new SigningThreads({ threads: 2, log, script, restartMs: 60_000 });
  const dead = await threads.sign(signing('X-Dies: exit\r\n'));
  assert.equal(dead.kind, 'failed');
  const made = await Promise.all(Array.from({ length: 20 }, () => threads.sign(signing('X-Lives: yes\r\n'))));
  assert.ok(made.every(({ kind }) => kind === 'signed'));
  await threads.close();
});

test('a thread that cannot even start fails what it was given', async () => {
  const broken = new URL('data:text/javascript,throw new Error()');
  const threads = new SigningThreads({ threads: 1, log, script: broken, restartMs: 60_000 });
  const answer = await threads.sign(signing('X-A: b\r\n'));
  assert.deepEqual(answer, { kind: 'failed', reason: 'the signing thread died' });
  await threads.close();
});

test('a thread that dies at once is not started again and again', async () => {
  const threads = new SigningThreads({ threads: 1, log, script, restartMs: 60_000 });
  await threads.sign(signing('X-Dies: exit\r\n'));
  const answer = await threads.sign(signing('X-Lives: yes\r\n'));
  assert.deepEqual(answer, { kind: 'failed', reason: 'no signing thread runs' });
  await threads.close();
});

test('a thread ends when it had nothing to do for a while, and starts again with the next message', async () => {
  const threads = new SigningThreads({ threads: 1, log, restMs: 10, restartMs: 60_000 });
  const before = signingThreads();
  assert.equal((await threads.sign(signing('X-A: b\r\n'))).kind, 'signed');
  assert.equal(signingThreads(), before + 1);
  await until('the thread rests', async () => signingThreads() === before);
  assert.equal((await threads.sign(signing('X-A: b\r\n'))).kind, 'signed');
  await threads.close();
});

/** The system names each thread. */
function signingThreads(): number {
  const names = readdirSync('/proc/self/task').map((id) =>
    readFileSync(`/proc/self/task/${id}/comm`, 'utf8'),
  );
  return names.filter((name) => name.startsWith('signing')).length;
}

test('a body whose beginning died with a thread is not hashed without it', async () => {
  const threads = new SigningThreads({ threads: 1, log, script, restartMs: 0 });
  // The first piece and the death share the thread; what waits then takes both slots before the second piece.
  const long = threads.sign(signing('X-Lives: yes\r\n', `${'x'.repeat(1_000_000)}\r\n`));
  const dying = threads.sign(signing('X-Dies: exit\r\n'));
  const others = Array.from({ length: 8 }, () => threads.sign(signing('X-Lives: yes\r\n')));
  assert.deepEqual(await long, { kind: 'failed', reason: 'the beginning of the body is lost' });
  assert.equal((await dying).kind, 'failed');
  await Promise.all(others);
  assert.equal((await threads.sign(signing('X-Lives: yes\r\n'))).kind, 'signed');
  await threads.close();
});

test('a thread that was sent very many keys forgets them, and is sent again what it needs', async () => {
  const threads = new SigningThreads({ threads: 1, log });
  const own = memberKeys.find(({ algorithm }) => algorithm === 'ed25519')!;
  const key = createPrivateKey(own.privateKey);
  const signers = Array.from({ length: 3_100 }, (_, number) => ({ ...own, key, number }));
  for (const some of [signers, signers.slice(0, 2), signers.slice(-2)]) {
    const answer = await threads.sign({ ...signing('X-A: b\r\n'), signers: some });
    assert.equal(answer.kind, 'signed');
  }
  await threads.close();
});
