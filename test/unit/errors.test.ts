import assert from 'node:assert/strict';
import { test } from 'node:test';
import { catalogue, httpBody, problem, smtpText } from '../../node/errors.ts';

test('each entry is complete: statuses agree on who is at fault, texts are whole sentences', () => {
  for (const [code, entry] of Object.entries(catalogue)) {
    assert.equal(entry.code, code);
    assert.match(entry.smtp.enhanced, /^[245]\.\d\.\d{1,2}$/);
    assert.equal(String(entry.smtp.code)[0], entry.smtp.enhanced[0], code);
    assert.match(entry.text, /^[A-Z].*\.$/);
    assert.match(entry.action, /^[A-Z].*\.$/);
    assert.equal(entry.docs, `errors#${code.toLowerCase().replaceAll('_', '-')}`);
    if (entry.retryable) assert.equal(entry.smtp.code < 500, true, `${code} is retryable, so SMTP says 4xx`);
  }
});

/** What members already program against: the public promise of the first implementation. */
const promised: [code: keyof typeof catalogue, http: number, smtp: string][] = [
  ['AUTH_REQUIRED', 400, '530 5.7.0'],
  ['INVALID_DID', 400, '501 5.5.4'],
  ['AUTH_FAILED', 401, '535 5.7.8'],
  ['MEMBER_SUSPENDED', 403, '521 5.7.1'],
  ['DOMAIN_MISMATCH', 403, '550 5.1.0'],
  ['RATE_LIMITED', 429, '451 4.7.1'],
  ['INVALID_REQUEST', 400, '501 5.5.4'],
  ['QUEUE_FULL', 503, '451 4.4.2'],
  ['RECIPIENT_SUPPRESSED', 403, '550 5.7.1'],
];
for (const [code, http, smtp] of promised) {
  test(`${code} is HTTP ${http} and SMTP ${smtp}`, () => {
    const entry = catalogue[code];
    assert.equal(entry.http, http);
    assert.equal(`${entry.smtp.code} ${entry.smtp.enhanced}`, smtp);
  });
}

test('an SMTP reply stays one line, whatever the detail', () => {
  assert.equal(
    smtpText(problem('DOMAIN_MISMATCH', 'a\r\n250 ok')),
    '5.1.0 The From address is not in a domain that you enrolled here. a 250 ok',
  );
});

test('an HTTP body carries the code for programs and the text for people', () => {
  assert.deepEqual(Object.keys(httpBody(problem('AUTH_FAILED'))), ['error', 'code', 'action']);
});
