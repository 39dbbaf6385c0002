/** How much of a request is read before it is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refusal } from '../../node/http/refusal.ts';
import { draft } from '../../node/relay/api/draft.ts';
import { sendRequest } from '../../node/relay/api/send-schema.ts';
import { cpuMs } from './cpu-time.ts';

const principal = { did: 'did:plc:reef', keyId: 'k', defaultCategory: null };
const mail = { from: 'a@reef.test', subject: 's', text: 't' };
const many = (count: number) => Array.from({ length: count }, (_, n) => `u${n}@dest.test`);

/** @returns how many addresses were judged */
async function judgedOf(request: object): Promise<number> {
  let judged = 0;
  const admission = {
    sender: () => undefined,
    recipient: (address: string) => {
      judged += 1;
      return { kind: 'recipient' as const, address };
    },
  };
  await assert.rejects(
    draft({ ...mail, to: 'a@dest.test', ...request }, { principal, admission, now: 0 }),
    (error) => error instanceof Refusal && error.problem.entry.code === 'TOO_MANY_RECIPIENTS',
  );
  return judged;
}

const crowds: [name: string, request: object][] = [
  ['in one list', { to: many(1_000) }],
  ['over To, Cc and Bcc', { to: many(50), cc: many(40), bcc: many(1_000) }],
  ['behind commas', { to: many(50), cc: many(60).join(',') }],
  ['in one line without an end', { to: Array(160).fill('a@b.cc').join(',') }],
  ['none of which is an address', { to: Array(1_000).fill('nonsense') }],
];
for (const [name, request] of crowds) {
  test(`nobody is read behind the one too many: ${name}`, async () => {
    assert.ok((await judgedOf(request)) <= 100);
  });
}

test('a request of the greatest size is held against its schema in no time', () => {
  const list = Array(1_000).fill(`${'a'.repeat(890)} ${'b'.repeat(100)}`);
  const request = { ...mail, to: list, cc: list, bcc: list };
  assert.ok(sendRequest.safeParse(request).success);
  // A regular expression that tries every place took seconds.
  assert.ok(cpuMs(() => sendRequest.safeParse(request)) < 500);
});

for (const [length, isFine] of [
  [900, true],
  [901, false],
] as const) {
  test(`a word of ${length} characters is ${isFine ? 'fine' : 'refused'}, wherever it stands`, () => {
    for (const subject of ['x'.repeat(length), `a ${'x'.repeat(length)}`, `\t${'x'.repeat(length)} b`])
      assert.equal(sendRequest.safeParse({ ...mail, to: 'a@dest.test', subject }).success, isFine);
  });
}
