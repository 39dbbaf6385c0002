/** A queue written by the version before: everything in it goes on. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { delivered, due, mail, minute, openSpool, putOff, start, temporaryFolder } from './spool-fixtures.ts';

test('what an older version accepted is due as it was, with its bytes, its history and its counts', async (t) => {
  const dir = temporaryFolder(t);
  const filling: string[] = [];
  const run = (sql: string, ...values: unknown[]) =>
    filling.push(sql.replaceAll('?', () => literal(values.shift())));
  const message = (id: string, open: number, finishedAt: number | null) =>
    run(
      'INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...[id, 'mail', 'did:plc:reef', 'reef.test', 'smtp', 'a@reef.test', start, start + 9 * minute],
      ...[4, 0, open, finishedAt],
    );
  const recipient = (id: string, state: string, attempts: number, nextAt: number | null) =>
    run(
      'INSERT INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...[id, id.split('.')[0], `${id}@Dest.test`, 'dest.test', 'b@pool.test'],
      ...[Buffer.from(nextAt ? 'S: ü\r\n' : ''), start + 1, Buffer.from(nextAt ? 'P: 1\r\n' : '')],
      ...[state, attempts, nextAt],
    );
  message('b', 2, null);
  message('a', 0, start);
  run('INSERT INTO body VALUES (?, ?)', 'b', Buffer.from([0, 255, 13, 10]));
  recipient('b.1', 'accepted', 0, start);
  recipient('b.2', 'deferred', 1, start + minute);
  recipient('b.12', 'sent', 1, null);
  recipient('a.1', 'bounced', 1, null);
  for (const [id, body] of [
    ['b.2', putOff()],
    ['b.2', putOff(start, false)],
    ['b.12', delivered()],
    ['a.1', putOff()],
  ] as const)
    run(
      'INSERT INTO attempt (recipient_id, counted, summary, repeats, body) VALUES (?, 1, ?, 3, ?)',
      ...[id, body.summary, JSON.stringify(body)],
    );
  run('INSERT INTO event VALUES (?, ?)', 5, JSON.stringify({ id: '5' }));
  run('INSERT INTO usage VALUES (?, ?, ?)', 'did:plc:reef', Math.floor(start / minute), 7);
  inOlderVersion(join(dir, 'spool.db'), filling);

  const spool = await openSpool(t, { dir });
  const claims = await due(spool, 9, start + minute);
  assert.deepEqual(
    claims.map((claim) => [claim.recipientId, claim.attempts, claim.site, claim.expiresAt, claim.body]),
    [
      ['b.1', 0, 'dest.test', start + 9 * minute, Buffer.from([0, 255, 13, 10])],
      ['b.2', 1, 'dest.test', start + 9 * minute, Buffer.from([0, 255, 13, 10])],
    ],
  );
  assert.deepEqual([String(claims[0]!.signatures), String(claims[0]!.prefix)], ['S: ü\r\n', 'P: 1\r\n']);
  const { recipients } = (await spool.message('b'))!;
  assert.deepEqual(
    recipients.map(({ id, state, timeline }) => [id, state, timeline.map(({ repeats }) => repeats)]),
    [
      ['b.1', 'accepted', []],
      ['b.2', 'deferred', [3, 3]],
      ['b.12', 'sent', [3]],
    ],
  );
  assert.equal((await spool.message('a'))!.recipients[0]!.timeline.length, 1);
  assert.deepEqual(await spool.eventsAfter('0', 9), [{ id: '5' }]);
  const cap = { scope: 'did:plc:reef', perHour: 100, perDay: 10 };
  assert.deepEqual((await spool.budget([cap], start))[0]!.day, { used: 7, left: 3 });
  for (const { recipientId } of claims)
    await spool.settle({ recipientId, attempt: delivered(), next: { state: 'sent' } });
  assert.equal(await spool.body('b'), undefined);
  assert.equal((await spool.accept(mail())).kind, 'committed');
  assert.equal((await due(spool, 9, start)).length, 1);
});

/** In a process of its own, since libsql keeps a closed file open until its statements are collected. */
function inOlderVersion(file: string, filling: readonly string[]): void {
  const script = `
    import { openDatabase } from ${JSON.stringify(import.meta.resolve('../../appview/database.ts'))};
    import { spoolMigrations } from ${JSON.stringify(import.meta.resolve('../../node/spool/schema.ts'))};
    const [file, sql] = process.argv.slice(1);
    openDatabase(file, spoolMigrations.slice(0, 1), { synchronous: 'FULL' }).exec(sql);`;
  execFileSync(process.execPath, ['--input-type=module', '-e', script, file, filling.join(';')]);
}

function literal(value: unknown): string {
  if (value === null) return 'NULL';
  if (Buffer.isBuffer(value)) return `x'${value.toString('hex')}'`;
  return typeof value === 'number' ? String(value) : `'${String(value).replaceAll("'", "''")}'`;
}
