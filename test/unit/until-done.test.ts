import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import { untilDone } from '../../node/until-done.ts';

test('what fails is told of and done again, until it is done', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const failures: unknown[] = [];
  let runs = 0;
  const run = untilDone({
    work: () => {
      if (++runs < 3) throw new Error(`database is locked, ${runs}`);
    },
    onFailure: (error) => failures.push((error as Error).message),
  });
  run();
  for (let n = 0; n < 5; n++) t.mock.timers.tick(10_000);
  assert.deepEqual([runs, failures], [3, ['database is locked, 1', 'database is locked, 2']]);
});

test('stopped, it does nothing more', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let runs = 0;
  const run = untilDone({
    work: () => {
      runs += 1;
      throw new Error('disk full');
    },
    onFailure: () => undefined,
  });
  run();
  run.stop();
  t.mock.timers.tick(10_000);
  run();
  assert.equal(runs, 1);
});

test('corrupt state of our own is thrown on', () => {
  const work = () => {
    throw new CorruptState('torn');
  };
  assert.throws(untilDone({ work, onFailure: () => assert.fail('swallowed') }), CorruptState);
});
