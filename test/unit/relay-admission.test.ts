/** The order in which a message is judged: whose it is, how large, how it is written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { smtpText } from '../../node/errors.ts';
import { Admission } from '../../node/relay/admission.ts';
import { parseMailboxes } from '../../node/relay/mailbox.ts';

const did = 'did:plc:reef';
const admission = new Admission({
  directory: {
    get: () => ({ relay: true }),
    domain: (name) => (name === 'reef.test' ? { did, defaultCategory: 'bulk' } : undefined),
  },
  standingOf: () => ({
    ...{ did, state: 'active', reason: null, until: null, by: 'person', tier: 'standard' },
    caps: { perHour: 1, perDay: 1 },
  }),
  suppressions: { find: () => undefined },
  poolDomain: 'harbor.test',
  maxMessageBytes: 3_000,
});

function judged(text: string): string {
  const admitted = admission.message({ did, defaultCategory: null }, Buffer.from(text), { smtpUtf8: false });
  return admitted.kind === 'admitted' ? 'admitted' : smtpText(admitted.problem);
}

const foreign = 'From: a@evil.test\r\n';
const own = 'From: a@reef.test\r\n';
const large = `\r\n${'b\r\n'.repeat(1_000)}`;
const orders: [name: string, text: string, says: RegExp][] = [
  ['a foreign From and a stray LF', `${foreign}\r\na\nb\r\n`, /^5\.1\.0 /],
  ['a foreign From and a line too long', `${foreign}\r\n${'a'.repeat(999)}\r\n`, /^5\.1\.0 /],
  ['a foreign From and a malformed header line', `${foreign}nonsense\r\n\r\nb\r\n`, /^5\.1\.0 /],
  ['a foreign From twice', `${foreign}${foreign}\r\nb\r\n`, /^5\.1\.0 /],
  ['a foreign From and too many octets', `${foreign}${large}`, /^5\.1\.0 /],
  ['too many octets and a stray LF', `${own}X: a\nb\r\n${large}`, /^5\.3\.4 .*3000/],
  ['a stray LF', `${own}\r\na\nb\r\n`, /^5\.6\.0 .*Line 3 /],
  ['a line too long', `${own}\r\n${'a'.repeat(999)}\r\n`, /^5\.6\.0 .*Line 3 /],
  ['no From, and a stray LF', 'X: a\r\n\r\na\nb\r\n', /^5\.6\.0 .*Line 3 /],
  ['a From that nobody can read', 'From: a@\r\n\r\nb\r\n', /^5\.6\.0 .*From/],
  ['nothing wrong', `${own}\r\nb\r\n`, /^admitted$/],
];
for (const [name, text, says] of orders) test(`judged: ${name}`, () => assert.match(judged(text), says));

test('a list without an end is not read', () => {
  const addresses = (count: number) => Array.from({ length: count }, (_, n) => `a${n}@reef.test`).join(',');
  assert.equal(parseMailboxes(addresses(200))?.length, 200);
  assert.equal(parseMailboxes(addresses(201)), undefined);
  assert.equal(parseMailboxes(`${'()'.repeat(10_000)} a@reef.test`), undefined);
});
