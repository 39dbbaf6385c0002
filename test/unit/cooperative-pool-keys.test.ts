import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import {
  dropPoolKey,
  ensurePoolKey,
  LivePoolKeys,
  neededUntil,
  newPoolKey,
  poolKeys,
  readPoolKey,
  usePoolKey,
} from '../../node/cooperative/pool-keys.ts';

describe('the pool domain’s DKIM key', () => {
  async function folder(t: TestContext): Promise<string> {
    const dir = mkdtempSync(join(tmpdir(), 'atmos-pool-keys-'));
    t.after(() => rmSync(dir, { recursive: true }));
    await ensurePoolKey(dir);
    return dir;
  }

  test('has the selector `pool`, and is made once', async (t) => {
    const dir = await folder(t);
    const first = readPoolKey(dir);
    assert.equal(first.selector, 'pool');
    await ensurePoolKey(dir);
    assert.deepEqual(readPoolKey(dir), first);
  });

  test('stays the one that signs while a new one waits to be published', async (t) => {
    const dir = await folder(t);
    const made = await newPoolKey(dir);
    assert.equal(made.selector, 'pool2');
    assert.deepEqual(await newPoolKey(dir), made);
    assert.equal(readPoolKey(dir).selector, 'pool');
    assert.deepEqual(
      poolKeys(dir).map(({ selector, signs }) => [selector, signs]),
      [
        ['pool', true],
        ['pool2', false],
      ],
    );
  });

  test('changes in a running node within a second, and the old one counts as published until it is dropped', async (t) => {
    const dir = await folder(t);
    let clock = 0;
    const live = new LivePoolKeys(dir, () => clock);
    assert.equal(live.signing().selector, 'pool');
    usePoolKey(dir, (await newPoolKey(dir)).selector);
    clock += 1_000;
    assert.equal(live.signing().selector, 'pool2');
    assert.deepEqual(
      [live.isPublished('pool'), live.isPublished('pool2'), live.isPublished('pool3')],
      [true, true, false],
    );
    dropPoolKey(dir, 'pool');
    clock += 1_000;
    assert.equal(live.isPublished('pool'), false);
    assert.equal((await newPoolKey(dir)).selector, 'pool3');
  });

  test('never gets the selector of one that was dropped, though that one never signed', async (t) => {
    const dir = await folder(t);
    const first = await newPoolKey(dir);
    dropPoolKey(dir, first.selector);
    const second = await newPoolKey(dir);
    assert.deepEqual([first.selector, second.selector], ['pool2', 'pool3']);
  });

  test('is needed for a while after another one signs; one that never signed is not', async (t) => {
    const dir = await folder(t);
    const before = Date.now();
    usePoolKey(dir, (await newPoolKey(dir)).selector);
    const until = neededUntil(dir, 'pool', 1_000_000);
    assert.ok(until >= before - 2_000 + 1_000_000 && until <= Date.now() + 1_000_000, String(until));
    assert.equal(neededUntil(dir, (await newPoolKey(dir)).selector, 1_000_000), 0);
  });

  test('that signs cannot be dropped, nor one used that is not there', async (t) => {
    const dir = await folder(t);
    assert.throws(() => dropPoolKey(dir, 'pool'), /signs now/);
    assert.throws(() => dropPoolKey(dir, 'pool7'), /no pool key/);
    assert.throws(() => usePoolKey(dir, 'pool7'), CorruptState);
    assert.equal(readPoolKey(dir).selector, 'pool');
  });

  test('that is named by a damaged file stops us', async (t) => {
    const dir = await folder(t);
    writeFileSync(join(dir, 'pool-selector'), '../label');
    assert.throws(() => readPoolKey(dir), CorruptState);
  });
});
