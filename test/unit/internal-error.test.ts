import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { CorruptState } from '../../appview/database.ts';
import { internalError } from '../../node/internal-error.ts';

const log = pino({ level: 'silent' });

const failures: [what: string, error: Error, ends: boolean][] = [
  ['state that we found damaged', new CorruptState('a sealed key does not open'), true],
  ['damage that SQLite found', Object.assign(new Error('malformed'), { code: 'SQLITE_CORRUPT' }), true],
  ['a full disk', Object.assign(new Error('full'), { code: 'SQLITE_FULL' }), false],
  ['a bug', new TypeError('x is undefined'), false],
];

for (const [what, error, ends] of failures) {
  test(`${what}: the member is answered, and the process ${ends ? 'ends' : 'goes on'}`, (t) => {
    t.mock.timers.enable({ apis: ['setImmediate'] });
    assert.equal(internalError(error, log).entry.code, 'INTERNAL_ERROR');
    const next = () => t.mock.timers.tick(1);
    if (ends) assert.throws(next, error);
    else next();
  });
}
