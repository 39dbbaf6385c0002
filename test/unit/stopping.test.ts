import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Stops } from '../../node/stopping.ts';

function stops() {
  const done: string[] = [];
  const errors: object[] = [];
  const log = { error: (fields: object) => void errors.push(fields) };
  const stop =
    (name: string, work: () => Promise<void> = async () => undefined) =>
    async () => {
      await work();
      done.push(name);
    };
  return { all: new Stops(log as never), done, errors, stop };
}

test('listeners close before the work, and stores last, the last opened first', async () => {
  const { all, done, stop } = stops();
  all.store('node.db', stop('node.db'));
  all.store('spool', stop('spool'));
  all.work('deliverer', stop('deliverer'));
  all.listener(
    'web',
    stop('web', () => new Promise((resolve) => setImmediate(resolve))),
  );
  await all.run();
  assert.deepEqual(done, ['web', 'deliverer', 'spool', 'node.db']);
});

test('a part that fails to stop is named and keeps nobody from stopping', async () => {
  const { all, done, errors, stop } = stops();
  all.listener('web', () => {
    throw new Error('no');
  });
  all.work('deliverer', () => Promise.reject(new Error('no')));
  all.store('spool', stop('spool'));
  await all.run();
  assert.deepEqual(done, ['spool']);
  assert.deepEqual(
    errors.map((fields) => (fields as { part: string }).part),
    ['web', 'deliverer'],
  );
});

test('a part that hangs is left behind and named', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { all, done, errors, stop } = stops();
  all.listener('web', () => new Promise(() => undefined));
  all.store('spool', stop('spool'));
  const running = all.run();
  t.mock.timers.tick(3_500);
  await running;
  assert.deepEqual(done, ['spool']);
  assert.deepEqual(errors, [{ part: 'web' }]);
});

test('two stops at once are one', async () => {
  const { all, done, stop } = stops();
  all.work('deliverer', stop('deliverer'));
  await Promise.all([all.run(), all.run()]);
  assert.deepEqual(done, ['deliverer']);
});
