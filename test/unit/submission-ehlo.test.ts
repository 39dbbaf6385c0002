import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ehloAnswer, ehloName } from '../../node/relay/submission-ehlo.ts';

test('the answer to EHLO ends with its last line and offers a login under TLS alone, once', () => {
  const of = (isSecure: boolean, isLoggedIn: boolean) =>
    ehloAnswer({ hostname: 'harbor.test', maxMessageBytes: 100, isSecure, isLoggedIn });
  for (const answer of [of(false, false), of(true, false), of(true, true)])
    assert.match(answer, /^250-harbor\.test\r\n(?:250-[A-Z0-9 ]+\r\n)+250 SIZE 100\r\n$/);
  assert.doesNotMatch(of(false, false), /AUTH|REQUIRETLS/);
  assert.match(of(true, false), /250-AUTH PLAIN LOGIN\r\n250-REQUIRETLS\r\n/);
  assert.doesNotMatch(of(true, true), /AUTH|STARTTLS/);
});

test('a client calls itself one word of at most 300 printable characters', () => {
  assert.equal(ehloName(Buffer.from('EHLO  Client.TEST ')), 'client.test');
  for (const line of ['EHLO', 'EHLO a b', 'EHLO a\0b', `EHLO ${'x'.repeat(301)}`])
    assert.equal(ehloName(Buffer.from(line)), undefined, line);
});
