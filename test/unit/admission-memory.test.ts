import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { openDatabase } from '../../appview/database.ts';
import { AdmissionMemory, commitsOf } from '../../node/relay/admission-memory.ts';

test('an answer is remembered until the database changes, from this connection or another', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-memory-'));
  const file = join(dir, 'node.db');
  const sql = 'CREATE TABLE word (name TEXT PRIMARY KEY, said TEXT) STRICT';
  const open = () => openDatabase(file, [{ number: 1, name: 'words', sql }], { synchronous: 'NORMAL' });
  const db = open();
  const other = open();
  const commits = commitsOf(file);
  t.after(() => {
    for (const one of [db, other, commits]) one.close();
    rmSync(dir, { recursive: true });
  });
  let asked = 0;
  const memory = new AdmissionMemory({ version: commits.version });
  const find = db.prepare('SELECT said FROM word WHERE name = ?');
  const said = memory.remember((name: string) => {
    asked += 1;
    return (find.get(name) as { said: string } | undefined)?.said;
  });
  assert.deepEqual([said('a'), said('a'), asked], [undefined, undefined, 1]);
  db.exec("INSERT INTO word VALUES ('a', 'one')");
  await turn();
  assert.deepEqual([said('a'), said('a'), asked], ['one', 'one', 2]);
  other.exec("UPDATE word SET said = 'two'");
  await turn();
  assert.deepEqual([said('a'), asked], ['two', 3]);
  await turn();
  assert.deepEqual([said('a'), asked], ['two', 3]);
  assert.equal(said('b'), undefined);
  assert.equal(asked, 4, 'no answer is remembered as well');
});

test('an answer is a second old at most, what throws is not remembered, and memory is bounded', async () => {
  let clock = 0;
  let asked = 0;
  const memory = new AdmissionMemory({ version: () => 1, clock: () => clock, maxEntries: 3 });
  const load = memory.remember((a: string, b?: string) => {
    asked += 1;
    if (a === 'bad') throw new RangeError(a);
    return `${a} ${b}`;
  });
  assert.deepEqual([load('x', 'y'), load('x', 'y'), load('x'), asked], ['x y', 'x y', 'x undefined', 2]);
  clock = 999;
  await turn();
  load('x', 'y');
  assert.equal(asked, 2);
  clock = 1000;
  await turn();
  load('x', 'y');
  assert.equal(asked, 3);
  for (let n = 0; n < 2; n++) assert.throws(() => load('bad'), RangeError);
  assert.equal(asked, 5);
  for (const name of ['p', 'q', 'r', 'p']) load(name);
  assert.equal(asked, 9, 'p was forgotten for r');
});
