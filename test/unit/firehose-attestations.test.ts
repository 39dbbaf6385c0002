import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { CorruptState, type Database, openDatabase } from '../../appview/database.ts';
import {
  type AttestationChange,
  Attestations,
  type ProvedEntry,
} from '../../appview/firehose/attestations.ts';
import { appviewMigrations } from '../../appview/migrations.ts';
import { attestation } from './firehose-fixtures.ts';
import {
  type Counted,
  cids,
  counters,
  dayMs,
  june,
  memberDid,
  quiet,
  strangerDid,
  uriOf,
} from './labels-fixtures.ts';

const source = 'wss://relay.test';
const revs = ['3lqq2rlhtkc22', '3lqq2rlhtkc23', '3lqq2rlhtkc24', '3lqq2rlhtkc25'] as const;

describe('the index of attestations', () => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-attestations-'));
  const file = join(folder, 'appview.db');
  let db: Database.Database;
  let counted: Counted;
  let changes: AttestationChange[];
  let clock: number;
  let index: Attestations;

  beforeEach(() => {
    clock = june;
    open();
  });

  afterEach(() => {
    db.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function open(): void {
    db = openDatabase(file, appviewMigrations, { synchronous: 'NORMAL' });
    counted = counters();
    changes = [];
    index = new Attestations({ db, log: quiet, count: counted.count, now: () => clock });
    index.onChange((change) => changes.push(change));
  }

  function entry(domain: string, cid: string = cids[0], fields = {}): ProvedEntry {
    return { rkey: domain, cid, value: attestation(domain, fields) };
  }

  let seq = 0;
  function commit(rev: string, entries: ProvedEntry[], did = memberDid): void {
    index.applyCommit({ did, rev, entries }, { source, seq: ++seq });
  }

  test('survives a restart, with its cursor', () => {
    commit(revs[0], [entry('reef.test')]);
    const row = index.get(uriOf('reef.test'));
    const cursor = seq;
    db.close();
    open();
    assert.deepEqual(index.get(uriOf('reef.test')), row);
    assert.equal(index.cursorOf(source), cursor);
    assert.equal(index.cursorOf('wss://other.test'), undefined);
  });

  test('a change and its cursor are one transaction', () => {
    commit(revs[0], [entry('reef.test')]);
    const before = index.cursorOf(source);
    db.exec(
      "CREATE TRIGGER full BEFORE UPDATE ON firehose_cursor BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    assert.throws(() => commit(revs[1], [entry('news.test')]), /disk full/);
    assert.deepEqual(index.domains(), ['reef.test']);
    assert.equal(index.cursorOf(source), before);
    assert.equal(changes.length, 1, 'nobody was told of what is not there');
  });

  test('listeners are told after the commit', () => {
    const seen: (string | undefined)[] = [];
    const end = index.onChange(({ uri }) => {
      assert.equal(db.inTransaction, false);
      seen.push(index.get(uri)?.cid);
    });
    commit(revs[0], [entry('reef.test')]);
    end();
    commit(revs[1], [entry('reef.test', cids[1])]);
    assert.deepEqual(seen, [cids[0]]);
    assert.equal(changes.length, 2);
  });

  test('a record that is written again unchanged is no change, and keeps the time of its first sight', () => {
    commit(revs[0], [entry('reef.test')]);
    clock += 1_000;
    commit(revs[1], [entry('reef.test')]);
    const { rev, indexedAt } = index.get(uriOf('reef.test'))!;
    assert.deepEqual([rev, indexedAt, changes.length], [revs[1], june, 1]);
    commit(revs[2], [entry('reef.test', cids[1])]);
    assert.equal(index.get(uriOf('reef.test'))?.indexedAt, june + 1_000);
  });

  test('an older commit changes nothing, neither what is there nor what is gone', () => {
    commit(revs[1], [entry('reef.test'), entry('news.test')]);
    commit(revs[2], [{ rkey: 'news.test' }]);
    commit(revs[0], [entry('reef.test', cids[1]), entry('news.test')]);
    assert.deepEqual(index.domains(), ['reef.test']);
    assert.equal(index.get(uriOf('reef.test'))?.cid, cids[0]);
    assert.equal(index.cursorOf(source), seq, 'but it is done with');
  });

  test('an invalid record removes the valid one, and is not there itself', () => {
    commit(revs[0], [entry('reef.test')]);
    commit(revs[1], [{ rkey: 'reef.test', cid: cids[1], value: attestation('other.test') }]);
    assert.deepEqual(index.of(memberDid), []);
    assert.deepEqual(changes.at(-1), { did: memberDid, rkey: 'reef.test', uri: uriOf('reef.test') });
    assert.equal(counted.of('attestations_refused{key_is_not_domain}'), 1);
  });

  test('an account whose only record is invalid leaves no trace', () => {
    commit(revs[0], [{ rkey: 'reef.test', cid: cids[0], value: undefined }]);
    assert.equal(index.knows(memberDid), false);
    assert.deepEqual(changes, []);
  });

  test('two accounts may attest one domain', () => {
    commit(revs[0], [entry('reef.test')], strangerDid);
    commit(revs[0], [entry('reef.test', cids[1])]);
    assert.deepEqual(
      index.byDomain('reef.test').map(({ did }) => did),
      [memberDid, strangerDid],
    );
    assert.deepEqual(index.domains(), ['reef.test']);
  });

  test('an account has at most a hundred', () => {
    const entries = Array.from({ length: 101 }, (_, i) => entry(`d${i}.test`));
    commit(revs[0], entries);
    assert.equal(index.of(memberDid).length, 100);
    assert.equal(counted.of('attestations_refused{too_many}'), 1);
    commit(revs[1], [entry('d5.test', cids[1])]);
    assert.equal(index.get(uriOf('d5.test'))?.cid, cids[1], 'an update needs no room');
  });

  test('an older word about an account changes nothing, and a word of the future is one of now', () => {
    commit(revs[0], [entry('reef.test')]);
    const account = (active: boolean, time: number) =>
      index.applyAccount({ did: memberDid, active, time }, { source, seq: ++seq });
    account(false, clock + 1e12);
    assert.deepEqual(index.domains(), []);
    clock += 1_000;
    account(true, clock);
    assert.deepEqual(index.domains(), ['reef.test']);
    account(false, clock - 1);
    assert.deepEqual(index.domains(), ['reef.test']);
  });

  test('of an account that is not active no reader shows anything', () => {
    commit(revs[0], [entry('reef.test')]);
    const shown = () => [
      ...index.of(memberDid),
      ...index.byDomain('reef.test'),
      ...index.domains(),
      ...[index.get(uriOf('reef.test')) ?? []].flat(),
    ];
    assert.equal(shown().length, 4);
    index.applyAccount(
      { did: memberDid, active: false, status: 'deactivated', time: clock },
      { source, seq: 9 },
    );
    assert.deepEqual(shown(), []);
  });

  test('a commit of a hidden account is kept and told of as an absence', () => {
    commit(revs[0], [entry('reef.test')]);
    index.applyAccount(
      { did: memberDid, active: false, status: 'takendown', time: clock },
      { source, seq: 9 },
    );
    commit(revs[1], [entry('reef.test', cids[1])]);
    assert.equal(changes.at(-1)?.cid, undefined);
    clock += 1;
    index.applyAccount({ did: memberDid, active: true, time: clock }, { source, seq: 10 });
    assert.equal(changes.at(-1)?.cid, cids[1]);
  });

  const account = (status?: string) => {
    clock += 1_000;
    const what = status === undefined ? { active: true } : { active: false, status };
    return index.applyAccount({ did: memberDid, ...what, time: clock }, { source, seq: ++seq });
  };

  test('the unsigned word of a deletion hides what was signed, and a second word shows it again', () => {
    commit(revs[0], [entry('reef.test')]);
    const row = index.get(uriOf('reef.test'));
    assert.equal(account('deleted'), undefined);
    assert.deepEqual([index.domains(), changes.at(-1)?.cid], [[], undefined]);
    assert.deepEqual(index.hidden(memberDid), { since: clock, rows: [row] });
    assert.equal(account(), 'to recheck');
    assert.deepEqual(index.get(uriOf('reef.test')), row);
    assert.equal(changes.at(-1)?.cid, cids[0]);
    assert.equal(index.hidden(memberDid), undefined);
  });

  test('what comes back is proved anew at its PDS, at once though earlier tries had to wait', () => {
    commit(revs[0], [entry('reef.test'), entry('news.test')]);
    index.postpone(memberDid, ['reef.test'], { source, seq: ++seq });
    for (let n = 0; n < 10; n++) index.rechecks.delay({ did: memberDid, rkey: 'reef.test', tries: n });
    account('deactivated');
    assert.deepEqual(index.rechecks.due(9), []);
    account();
    const due = index.rechecks.due(9).map(({ rkey, tries }) => `${rkey} ${tries}`);
    assert.deepEqual(due.sort(), ['news.test 0', 'reef.test 0']);
  });

  test('an account is hidden since we heard of it first, whatever time and reason the source gives', () => {
    commit(revs[0], [entry('reef.test')]);
    index.applyAccount(
      { did: memberDid, active: false, status: 'deactivated', time: 5 },
      { source, seq: ++seq },
    );
    assert.equal(index.hidden(memberDid)?.since, june);
    account('takendown');
    account('deleted');
    assert.equal(index.hidden(memberDid)?.since, june);
  });

  test('only what stays deleted for thirty days is dropped, and an old commit does not bring it back', () => {
    commit(revs[1], [entry('reef.test')]);
    commit(revs[0], [entry('other.test')], strangerDid);
    index.applyAccount(
      { did: strangerDid, active: false, status: 'deactivated', time: clock },
      { source, seq: ++seq },
    );
    account('deactivated');
    clock += 40 * dayMs;
    account('deleted');
    clock += 30 * dayMs - 1;
    index.dropLongDeleted();
    assert.equal(index.hidden(memberDid)?.rows.length, 1);
    clock += 1;
    index.dropLongDeleted();
    assert.deepEqual(index.hidden(memberDid)?.rows, []);
    assert.equal(index.hidden(strangerDid)?.rows.length, 1, 'deactivated is not deleted');
    commit(revs[0], [entry('reef.test')]);
    account();
    assert.deepEqual(index.domains(), []);
  });

  test('a record that no source keeps any more is asked for at its PDS, once, and only then known absent', () => {
    assert.equal(index.hasRead(memberDid), false);
    assert.equal(index.recheck(memberDid, 'reef.test'), true);
    assert.equal(index.recheck(memberDid, 'reef.test'), true);
    assert.equal(index.rechecks.due(9).length, 1);
    assert.equal(index.hasRead(memberDid), false, 'a PDS that never answers says nothing');
    assert.equal(index.isPending(memberDid, 'reef.test'), true);
    index.applyRecheck(memberDid, revs[0], entry('reef.test'));
    assert.equal(index.hasRead(memberDid), true);
    assert.deepEqual([index.domains(), index.isPending(memberDid, 'reef.test')], [['reef.test'], false]);
    const keys = Array.from({ length: 100 }, (_, i) => `d${i}.test`);
    index.postpone(strangerDid, keys, { source, seq: ++seq });
    assert.equal(index.recheck(strangerDid, 'reef.test'), false, 'no room');
    assert.equal(index.hasRead(strangerDid), false);
  });

  test('a recheck speaks for one record: other commits of the account still count', () => {
    commit(revs[0], [entry('reef.test')]);
    index.applyRecheck(memberDid, revs[2], entry('reef.test', cids[1]));
    commit(revs[1], [entry('reef.test'), entry('news.test')]);
    assert.equal(index.get(uriOf('reef.test'))?.cid, cids[1], 'newer');
    assert.equal(index.get(uriOf('news.test'))?.cid, cids[0]);
  });

  test('rechecks are due at once, then at growing intervals, and are given up in the end', () => {
    index.postpone(memberDid, ['reef.test'], { source, seq: 1 });
    assert.equal(index.knows(memberDid), true);
    const waits: number[] = [];
    for (;;) {
      const [recheck] = index.rechecks.due(1);
      assert.ok(recheck);
      if (!index.rechecks.delay(recheck)) break;
      const dueAt = index.rechecks.nextDueAt()!;
      waits.push((dueAt - clock) / 1_000);
      clock = dueAt - 1;
      assert.deepEqual(index.rechecks.due(1), []);
      clock = dueAt;
    }
    assert.deepEqual(waits.slice(0, 5), [1, 2, 4, 8, 16]);
    assert.ok(Math.max(...waits) <= 7_200);
    assert.equal(index.rechecks.nextDueAt(), undefined);
    assert.equal(index.knows(memberDid), false);
  });

  test('rechecks survive a restart, and one account cannot fill the list', () => {
    const keys = Array.from({ length: 101 }, (_, i) => `d${i}.test`);
    index.postpone(memberDid, keys, { source, seq: 1 });
    index.postpone(strangerDid, ['reef.test'], { source, seq: 2 });
    assert.equal(counted.of('rechecks_dropped{no_room}'), 1);
    db.close();
    open();
    assert.equal(index.rechecks.due(999).length, 101);
    assert.equal(index.cursorOf(source), 2);
  });

  test('a stored record that is damaged ends the process, not the listing', () => {
    commit(revs[0], [entry('reef.test')]);
    db.exec("UPDATE attestation SET record = '{'");
    assert.throws(
      () => index.get(uriOf('reef.test')),
      (error) => error instanceof CorruptState && /as far back as/.test(error.message),
    );
  });
});
