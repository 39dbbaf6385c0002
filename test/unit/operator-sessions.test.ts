import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OperatorSessions } from '../../node/operator/sessions.ts';

describe('an operator’s link', () => {
  const minute = 60_000;
  let clock = 0;
  const sessions = new OperatorSessions(() => clock);

  test('opens one session, once', () => {
    const link = sessions.newLink('ada');
    const session = sessions.redeem(link)!;
    assert.equal(sessions.operatorOf(session), 'ada');
    assert.equal(sessions.redeem(link), undefined);
  });

  test('is over after five minutes', () => {
    const link = sessions.newLink('ada');
    clock += 5 * minute;
    assert.equal(sessions.redeem(link), undefined);
  });

  test('opens a session that is over after twelve hours, or when it is ended', () => {
    const first = sessions.redeem(sessions.newLink('ada'))!;
    const second = sessions.redeem(sessions.newLink('ada'))!;
    sessions.end(first);
    assert.equal(sessions.operatorOf(first), undefined);
    clock += 12 * 60 * minute - 1;
    assert.equal(sessions.operatorOf(second), 'ada');
    clock += 1;
    assert.equal(sessions.operatorOf(second), undefined);
  });

  test('a secret that nobody made opens nothing', () => {
    assert.equal(sessions.redeem(''), undefined);
    assert.equal(sessions.operatorOf(''), undefined);
  });

  test('the oldest goes when a hundred are kept', () => {
    const first = sessions.newLink('ada');
    for (let i = 0; i < 100; i++) sessions.newLink('ada');
    assert.equal(sessions.redeem(first), undefined);
  });
});
