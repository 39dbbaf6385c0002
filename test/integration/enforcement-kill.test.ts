import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Endpoints } from '../../node/webhooks/endpoints.ts';
import { Fuzz } from '../fuzz/random.ts';
import { openOutbox } from './enforcement-outbox.ts';

const child = join(import.meta.dirname, 'enforcement-kill-child.ts');
const folders: string[] = [];
after(() => {
  for (const dir of folders) rmSync(dir, { recursive: true });
});

/** A member with a webhook, and that many recipients accepted, of which every fifth does not exist. */
function setUp(recipients: number) {
  const dir = mkdtempSync(join(tmpdir(), 'kill-'));
  folders.push(dir);
  const db = openDatabase(`${dir}/node.db`, nodeMigrations, { synchronous: 'FULL' });
  db.exec("INSERT INTO member (did, enrolled_at) VALUES ('did:plc:reef', 0)");
  new Endpoints({
    ...{ db, seal: new Seal(Buffer.alloc(32, 1)), now: Date.now },
    rules: { allowLoopback: true, loopbackOnly: true },
  }).create({ did: 'did:plc:reef', url: 'http://127.0.0.1:1/', description: '', types: [] });
  const outbox = openOutbox(dir);
  for (let n = 0; n < recipients; n++) {
    const about = { at: Date.now(), did: 'did:plc:reef', domain: 'reef.test', messageId: `m${n}` };
    const recipient = `r${n}@harbor.example`;
    outbox.add({ ...about, type: 'relay_attempt', detail: { recipient } });
    const isUnknown = n % 5 === 0;
    const detail = { recipient, state: isUnknown ? 'bounced' : 'sent', recipientInvalid: isUnknown };
    outbox.add({ ...about, type: 'delivery_result', detail });
  }
  const check = (when: string) => {
    const rates = new Rates({ db, now: Date.now }).of({ did: 'did:plc:reef', window: 'total' });
    const rows = (table: string) =>
      (db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
    assert.deepEqual(
      [rates.sends, rates.delivered + rates.bounced, rates.unknownUsers],
      [recipients, recipients, Math.ceil(recipients / 5)],
      when,
    );
    assert.deepEqual(
      [rows('event'), rows('webhook_delivery'), rows('suppression')],
      [2 * recipients, 2 * recipients, Math.ceil(recipients / 5)],
      when,
    );
    assert.deepEqual(outbox.eventsAfter('0', 1), [], when);
  };
  const close = () => {
    outbox.close();
    db.close();
  };
  return { dir, db, check, close };
}

function run(dir: string, point: string) {
  return spawnSync(process.execPath, [child, dir, point], { encoding: 'utf8' });
}

for (const point of ['in-the-transaction', 'before-forget', 'after-forget']) {
  test(`killed ${point}: everything is counted once, suppressed once and told once`, () => {
    const { dir, check, close } = setUp(30);
    assert.equal(run(dir, point).signal, 'SIGKILL');
    const second = run(dir, 'none');
    assert.equal(second.stdout, 'done\n', second.stderr);
    check(point);
    close();
  });
}

test('killed between a standing and its queue: the work is still written down', () => {
  const { dir, db, close } = setUp(0);
  assert.equal(run(dir, 'before-queue').signal, 'SIGKILL');
  assert.deepEqual(db.prepare('SELECT state, state_by FROM member').all(), [
    { state: 'held', state_by: 'automatic' },
  ]);
  assert.deepEqual(db.prepare('SELECT did, passes FROM standing_work').all(), [
    { did: 'did:plc:reef', passes: 2 },
  ]);
  close();
});

test('killed at random, again and again: nothing is lost and nothing counted twice', async () => {
  const fuzz = new Fuzz('enforcement-kill', 'ATMOS_KILL_ROUNDS');
  const { dir, check, close } = setUp(3000);
  for (let round = fuzz.rounds(4); round > 0; round--) {
    const victim = spawn(process.execPath, [child, dir, 'loop'], { stdio: 'ignore' });
    const timer = setTimeout(() => victim.kill('SIGKILL'), 150 + fuzz.below(250));
    await once(victim, 'exit');
    clearTimeout(timer);
  }
  const last = run(dir, 'none');
  assert.equal(last.stdout, 'done\n', last.stderr);
  check('at the end');
  close();
});
