/** What a look leaves behind: verdicts over a silence of DNS, changed records, and when to look again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CheckResult } from '../../node/labeler/checks.ts';
import type { Seen } from '../../node/labeler/dns-changes.ts';
import type { Verdict } from '../../node/labeler/finding.ts';
import { nextRound, nextTry } from '../../node/labeler/next-look.ts';
import { outcomeOf } from '../../node/labeler/outcome.ts';
import type { Verification } from '../../node/labeler/verifications.ts';

const hour = 3_600_000;
const day = 24 * hour;
const grace = 3 * day;
const start = Date.parse('2026-11-20T12:00:00Z');
const about = { did: 'did:plc:reef', domain: 'reef.test' };

type Look = {
  verdict: Verdict;
  at: number;
  cid?: string;
  keys?: Record<string, string>;
  records?: Record<string, string>;
};

function evidence({ verdict, keys, records }: Look): CheckResult[] {
  const common = { verdict, reason: '', observations: [] };
  return [
    { check: 'dkim', ...common, ...(keys && { seen: keys }) },
    { check: 'mx', ...common, ...(records && { seen: records }) },
  ];
}

/** Each look upon the row that the one before left. */
function looks(all: Look[]) {
  let row: Verification | undefined;
  return all.map((look) => {
    const { cid = 'cid1', at } = look;
    const outcome = outcomeOf(row, { cid, evidence: evidence(look), at }, grace);
    row = { ...about, ...outcome.row, nextAt: 0 };
    return { ...outcome, ...outcome.row, ran: outcome.verdict };
  });
}

test('a silence keeps the verdict, says since when and until when, and an answer ends it', () => {
  const [, silent, still, heard] = looks([
    { verdict: 'passed', at: start },
    { verdict: 'undecided', at: start + day },
    { verdict: 'undecided', at: start + day + grace - 1 },
    { verdict: 'passed', at: start + 4 * day },
  ]);
  for (const { verdict, ran, note, decidedAt } of [silent!, still!]) {
    assert.deepEqual([verdict, ran, decidedAt], ['passed', 'undecided', start]);
    assert.equal(
      note,
      'DNS did not answer since 2026-11-21T12:00:00.000Z; the verdict of before stands, ' +
        'and after 2026-11-24T12:00:00.000Z it counts as failed',
    );
  }
  assert.deepEqual([heard!.verdict, heard!.note, heard!.undecidedSince], ['passed', null, null]);
});

test('after the grace the domain has failed, and the silence is the reason; it stays so until an answer', () => {
  const [, , over, later, back] = looks([
    { verdict: 'passed', at: start },
    { verdict: 'undecided', at: start + day },
    { verdict: 'undecided', at: start + day + grace },
    { verdict: 'undecided', at: start + 9 * day },
    { verdict: 'passed', at: start + 10 * day },
  ]);
  for (const { verdict, note } of [over!, later!]) {
    assert.deepEqual([verdict, note], ['failed', 'DNS did not answer since 2026-11-21T12:00:00.000Z']);
  }
  assert.deepEqual([back!.verdict, back!.note], ['passed', null]);
});

test('a new version of the record does not give a silent domain more time', () => {
  const [, , anew, over] = looks([
    { verdict: 'passed', at: start },
    { verdict: 'undecided', at: start + day },
    { verdict: 'undecided', at: start + 2 * day, cid: 'cid2' },
    { verdict: 'undecided', at: start + day + grace, cid: 'cid3' },
  ]);
  assert.deepEqual([anew!.verdict, over!.verdict], ['undecided', 'failed']);
});

test('nothing is decided of a version that nobody answered for; what failed stays failed', () => {
  const [first, second] = looks([
    { verdict: 'undecided', at: start },
    { verdict: 'undecided', at: start + hour },
  ]);
  assert.deepEqual([first!.verdict, second!.verdict], ['undecided', 'undecided']);
  assert.match(second!.note!, /since 2026-11-20T12:00:00\.000Z; nothing is decided/);
  const [, silent] = looks([
    { verdict: 'failed', at: start },
    { verdict: 'undecided', at: start + hour },
  ]);
  assert.equal(silent!.verdict, 'failed');
  assert.match(silent!.note!, /it had failed before/);
});

test('looks that did not pass are counted in a row, anew for each version', () => {
  const counted = looks([
    { verdict: 'failed', at: start },
    { verdict: 'undecided', at: start },
    { verdict: 'failed', at: start },
    { verdict: 'failed', at: start, cid: 'cid2' },
    { verdict: 'passed', at: start, cid: 'cid2' },
    { verdict: 'failed', at: start, cid: 'cid2' },
  ]);
  assert.deepEqual(
    counted.map(({ tries }) => tries),
    [1, 2, 3, 1, 0, 1],
  );
});

test('another key under the same attestation is told with old and new; under a new one it is declared', () => {
  const [first, same, changed, declared, after] = looks([
    { verdict: 'passed', at: start, keys: { s1: 'sha256:aa' } },
    { verdict: 'passed', at: start + day, keys: { s1: 'sha256:aa' } },
    { verdict: 'passed', at: start + 2 * day, keys: { s1: 'sha256:bb' } },
    { verdict: 'passed', at: start + 3 * day, keys: { s1: 'sha256:cc' }, cid: 'cid2' },
    { verdict: 'failed', at: start + 4 * day, keys: { s1: 'revoked' }, cid: 'cid2' },
  ]);
  assert.deepEqual([first!.change, same!.change, declared!.change], [undefined, undefined, undefined]);
  assert.deepEqual(changed!.change, {
    cid: 'cid1',
    keys: [{ name: 's1', old: 'sha256:aa', new: 'sha256:bb' }],
    records: [],
  });
  assert.deepEqual(after!.change!.keys, [{ name: 's1', old: 'sha256:cc', new: 'revoked' }]);
});

test('a silence is no change, and what changed behind it is told when it ends', () => {
  const [, silent, heard] = looks([
    { verdict: 'passed', at: start, keys: { s1: 'sha256:aa' }, records: { MX: '10 a' } },
    { verdict: 'undecided', at: start + day },
    { verdict: 'passed', at: start + 2 * day, keys: { s1: 'sha256:bb' }, records: { MX: '10 b' } },
  ]);
  assert.equal(silent!.change, undefined);
  assert.equal(heard!.change!.keys.length + heard!.change!.records.length, 2);
});

test('changed records are told once an hour, as the sum of what changed; a key is not made to wait', () => {
  const mx = (at: number, MX: string, s1 = 'sha256:aa'): Look => ({
    ...{ verdict: 'passed', at: start + at },
    ...{ keys: { s1 }, records: { MX } },
  });
  const [, told, quiet, back, key, sum, held, late] = looks([
    mx(0, '10 a'),
    mx(1, '10 b'),
    mx(2, '10 c'),
    mx(3, '10 b'),
    mx(4, '10 d', 'sha256:bb'),
    mx(4 + hour, '10 e', 'sha256:bb'),
    mx(5 + hour, '10 f', 'sha256:bb'),
    mx(5 + 2 * hour, '10 f', 'sha256:bb'),
  ]);
  assert.deepEqual(told!.change!.records, [{ name: 'MX', old: '10 a', new: '10 b' }]);
  assert.deepEqual([quiet!.change, back!.change], [undefined, undefined]);
  assert.deepEqual(key!.change!.records, [{ name: 'MX', old: '10 b', new: '10 d' }]);
  assert.equal(key!.change!.keys.length, 1);
  assert.deepEqual(sum!.change!.records, [{ name: 'MX', old: '10 d', new: '10 e' }]);
  assert.equal(held!.change, undefined);
  assert.deepEqual(late!.change!.records, [{ name: 'MX', old: '10 e', new: '10 f' }]);
});

test("a stranger's record does not fill the row, and a change behind the cut is seen", () => {
  const long = (end: string) => ({ SPF: `v=spf1 ${'ip4:198.51.100.1 '.repeat(900)}${end}` });
  const [, changed] = looks([
    { verdict: 'passed', at: start, records: long('-all') },
    { verdict: 'passed', at: start + day, records: long('~all') },
  ]);
  assert.equal(changed!.change!.records.length, 1);
  assert.ok(JSON.stringify(changed!.seen satisfies Seen).length < 1_000);
});

test('a domain that does not pass is asked in minutes, then ever more rarely, at last every four hours', () => {
  const waits = Array.from({ length: 20 }, (_, i) => nextTry(0, i + 1, 300_000, day) / 60_000);
  assert.equal(waits[0], 5);
  assert.ok(waits[1]! > 6.5 && waits[1]! <= 7.5, `${waits[1]}`);
  for (const [i, wait] of waits.entries()) assert.ok(wait <= 240 && (i === 0 || wait > waits[i - 1]! * 0.9));
  assert.ok(waits[19]! >= 216);
  assert.equal(nextTry(0, 5, 2 * day, hour), 2 * day, 'what is configured is not undercut');
});

test('20,000 domains that were enrolled together are spread evenly after five rounds, each at 24 h ± 10 %', () => {
  const count = 20_000;
  let at = Array.from({ length: count }, () => 0);
  const domains = at.map((_, i) => ({ did: `did:plc:${i}`, domain: `d${i}.test` }));
  const busiest: number[] = [];
  for (let round = 0; round < 6; round++) {
    const next = at.map((now, i) => nextRound(now, domains[i]!, day));
    for (const [i, due] of next.entries()) {
      const wait = due - at[i]!;
      assert.ok(wait >= 0.9 * day - 1 && wait <= 1.1 * day + 1, `${wait}`);
    }
    at = next;
    busiest.push(peak(at));
  }
  // 13.9 a minute is even; chance makes some 30 of it.
  assert.ok(busiest[0]! > 200 && busiest[5]! < 40, busiest.join(' '));
  const settled = at.map((now, i) => nextRound(now, domains[i]!, day) - now);
  assert.ok(settled.every((wait) => Math.abs(wait - day) <= 1));
});

/** The most in one minute of the day. */
function peak(times: readonly number[]): number {
  const minutes = new Uint32Array(1_440);
  for (const at of times) minutes[Math.floor((at % day) / 60_000)]! += 1;
  return Math.max(...minutes);
}
