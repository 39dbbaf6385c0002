/** A zone that follows its files: what becomes of them, it goes on. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pino } from 'pino';
import { parseSource } from '../../dnsbl/files/source.ts';
import { FollowedFiles } from '../../dnsbl/files/zone-files.ts';
import { apex, emptyZone, said, startMs } from './dnsbl-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-followed-'));
after(() => rmSync(folder, { recursive: true }));

const file = join(folder, 'dom.dnset');

function put(line: string): void {
  writeFileSync(`${file}.new`, `${line}\n`);
  renameSync(`${file}.new`, file);
}

/** Looked at each millisecond, which is far less than it takes to load them. */
async function followed() {
  const reloads: string[] = [];
  let waiting: (() => void)[] = [];
  const files = new FollowedFiles({
    ...{ apex, sources: [parseSource(`dom=${file}`)], pollMs: 1, now: () => startMs },
    log: pino({ level: 'silent' }),
    count: (_what, outcome = '') => {
      reloads.push(outcome);
      for (const resolve of waiting) resolve();
      waiting = [];
    },
  });
  const zone = emptyZone();
  zone.adopt((await files.load()).table);
  files.follow(zone);
  const reloaded = () => new Promise<void>((resolve) => waiting.push(resolve));
  return { files, zone, reloads, reloaded };
}

test('a file that cannot even be looked at leaves the old entries, until it is right again', async () => {
  put('reef.test :2:');
  const { files, zone, reloads, reloaded } = await followed();
  const failed = reloaded();
  rmSync(file);
  symlinkSync(file, file);
  await failed;
  assert.equal(reloads.at(-1), 'failed');
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.2');
  put('reef.test :3:');
  while (reloads.at(-1) !== 'done') await reloaded();
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.3');
  await files.stop();
});

test('one change of a file is one reload, however often it is looked at meanwhile', async () => {
  put('reef.test :2:');
  const { files, zone, reloads, reloaded } = await followed();
  const done = reloaded();
  put('reef.test :3:');
  await done;
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.3');
  // Behind whatever else was asked for.
  await files.reload();
  assert.deepEqual(reloads, ['done', 'done']);
  await files.stop();
});
