/** Whatever is posted: a message that is whole, or an error of the catalogue. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { catalogue } from '../../node/errors.ts';
import { sendAnswer } from '../../node/relay/api/send-schema.ts';
import { fieldsNamed, parseMessage } from '../../node/relay/message.ts';
import { openApiWorld } from '../integration/api-world.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('send-api');
const world = await openApiWorld();
after(() => world.close());

const whole = {
  from: 'Reef <a@reef.test>',
  to: ['B <b@dest.test>', 'c@dest.test'],
  cc: 'd@dest.test',
  bcc: ['e@dest.test'],
  replyTo: 'help@else.test',
  subject: 'Grüße',
  text: 'one\ntwo',
  html: '<p>one</p>',
  headers: { 'X-One': '1', 'List-Unsubscribe': '<https://reef.test/u>' },
  category: 'transactional',
  attachments: [{ filename: 'a.gif', contentType: 'image/gif', cid: 'a', content: 'R0lGODlhAQABAAAAACw=' }],
  tags: ['one'],
};

const values: readonly unknown[] = [
  ...[null, 0, -1, true, '', ' ', '\r\n', '\0', '\u2028', '\ud800', '<', '>', ',', '@', 'a@b', 'a@reef.test'],
  ...[
    '"x" <a@reef.test>',
    'a@reef.test\r\nBcc: x@y.test',
    '=?utf-8?q?a=40evil.test?= <a@reef.test>',
    'x'.repeat(2000),
  ],
  ...['/etc/passwd', 'http://127.0.0.1/', 'data:text/plain,x', '../..', '__proto__', 'constructor'],
  ...[
    [],
    {},
    [[]],
    [{}],
    [null],
    { path: '/etc/passwd' },
    { length: 1 },
    { toString: 1 },
    ['a@dest.test', 7],
  ],
];

/** A few fields changed, taken away or put in, at any depth. */
function mangled(): unknown {
  const copy = structuredClone(whole) as Record<string, unknown>;
  for (let n = 1 + fuzz.below(3); n > 0; n--) {
    let at: Record<string, unknown> = copy;
    while (fuzz.below(3) === 0) {
      const inner = Object.values(at).filter((value) => typeof value === 'object' && value !== null);
      if (inner.length === 0) break;
      at = fuzz.pick(inner) as Record<string, unknown>;
    }
    const key =
      fuzz.below(6) === 0 ? String(JSON.stringify(fuzz.pick(values))) : fuzz.pick([...Object.keys(at), 'x']);
    if (fuzz.below(5) === 0) delete at[key];
    else
      Object.defineProperty(at, key, {
        value: structuredClone(fuzz.pick(values)),
        enumerable: true,
        configurable: true,
        writable: true,
      });
  }
  return copy;
}

async function judge(payload: string | Buffer, input: string): Promise<void> {
  const answer = await world.app.inject({
    ...{ method: 'POST', url: '/v1/send', payload },
    headers: { 'content-type': 'application/json', ...world.login },
  });
  const body = JSON.parse(answer.body);
  if (answer.statusCode !== 200) {
    const entry = catalogue[body.code as keyof typeof catalogue];
    assert.ok(entry, input);
    assert.equal(answer.statusCode, entry.http, input);
    assert.ok(answer.statusCode < 500, `${input}\n${answer.body}`);
    return;
  }
  const { accepted } = sendAnswer.parse(body);
  const at = Date.now();
  const claims = await world.spool.due({ limit: 1000, now: at + 1, exceptSites: [], exceptMembers: [] });
  assert.equal(claims.length, accepted.length, input);
  for (const claim of claims) {
    assert.equal(claim.queueId, accepted[0]!.messageId, input);
    const body = (await world.spool.body(claim.queueId))!;
    checkMessage(Buffer.concat([claim.signatures, claim.prefix, body]), input);
    await world.spool.settle({
      recipientId: claim.recipientId,
      attempt: { at, durationMs: 1, outcome: 'delivered', counted: true, status: '2.0.0', summary: 'ok' },
      next: { state: 'sent' },
    });
  }
}

function checkMessage(bytes: Buffer, input: string): void {
  const parsed = parseMessage(bytes);
  assert.ok(parsed.kind === 'message', input);
  const { fields } = parsed.message;
  assert.equal(fieldsNamed(fields, 'from').length, 1, input);
  assert.equal(fieldsNamed(fields, 'bcc').length, 0, input);
  assert.ok(fieldsNamed(fields, 'received').length === 1, input);
}

test('fields of every kind at every place', async () => {
  for (let round = fuzz.rounds(150, 10); round > 0; round--) {
    const text = JSON.stringify(mangled());
    await judge(text, text);
  }
});

test('bytes that are nearly JSON', async () => {
  const bytes = Buffer.from(JSON.stringify(whole));
  for (let round = fuzz.rounds(150, 10); round > 0; round--) {
    const changed = fuzz.mutate(bytes);
    await judge(changed, changed.toString('latin1'));
  }
});
