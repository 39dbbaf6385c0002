import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Category, categories } from '../../node/members/category.ts';
import { type Prefix, prefixOf, strip, unsubscribeAllowed } from '../../node/relay/compose.ts';
import { type Message, parseMessage } from '../../node/relay/message.ts';

const link = 'https://harbor.test/u/token';

function messageOf(text: string): Message {
  const parsed = parseMessage(Buffer.from(text));
  assert.ok(parsed.kind === 'message');
  return parsed.message;
}

function prefix(o: Partial<Prefix> = {}, header = ''): string {
  return prefixOf({
    message: messageOf(`From: a@reef.test\r\n${header}\r\nbody`),
    queueId: '0123456789abcdef',
    recipientId: '0123456789abcdef.1',
    did: 'did:plc:reef',
    domain: 'reef.test',
    category: 'bulk',
    poolDomain: 'harbor.test',
    hostname: 'mx.harbor.test',
    protocol: 'ESMTPSA',
    receivedAt: Date.UTC(2026, 10, 20),
    apex: 'list.harbor.test',
    unsubscribe: link,
    ...o,
  }).toString();
}

test('bulk mail has every line of ours', () => {
  assert.equal(
    prefix(),
    [
      'Received: by mx.harbor.test with ESMTPSA id 0123456789abcdef;',
      '\tFri, 20 Nov 2026 00:00:00 +0000',
      'X-Atmos-Id: 0123456789abcdef.1',
      'X-Atmos-Member-Did: did:plc:reef',
      'Feedback-ID: reef.test:2b709db14167:bulk:harbor.test',
      'VBR-Info: md=reef.test; mc=list; mv=list.harbor.test',
      `List-Unsubscribe: <${link}>`,
      'List-Unsubscribe-Post: List-Unsubscribe=One-Click',
      'Date: Fri, 20 Nov 2026 00:00:00 +0000',
      'Message-ID: <0123456789abcdef@reef.test>',
      '',
    ].join('\r\n'),
  );
});

for (const category of categories.filter((name): name is Exclude<Category, 'bulk'> => name !== 'bulk')) {
  test(`${category} mail has no link to unsubscribe, and vouches for transactions`, () => {
    const lines = prefix({ category });
    assert.doesNotMatch(lines, /List-Unsubscribe/);
    assert.match(lines, /^VBR-Info: md=reef\.test; mc=transaction; mv=list\.harbor\.test\r$/m);
    assert.match(
      lines,
      new RegExp(`^Feedback-ID: reef\\.test:[0-9a-f]{12}:${category}:harbor\\.test\r$`, 'm'),
    );
    assert.equal(unsubscribeAllowed(category), false);
  });
}

test("the member's own List-Unsubscribe stays, and ours is not added", () => {
  const header = 'list-unsubscribe: <mailto:leave@reef.test>\r\n';
  assert.doesNotMatch(prefix({}, header), /List-Unsubscribe/);
  assert.equal(unsubscribeAllowed('bulk', messageOf(`From: a@reef.test\r\n${header}\r\n`)), false);
  assert.equal(unsubscribeAllowed('bulk', messageOf('From: a@reef.test\r\n\r\n')), true);
});

test('a List-Unsubscribe-Post that stands alone is not doubled', () => {
  const lines = prefix({}, 'List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n');
  assert.match(lines, /^List-Unsubscribe: /m);
  assert.doesNotMatch(lines, /List-Unsubscribe-Post/);
});

test('a link too long for a line is left out', () => {
  assert.match(prefix({ unsubscribe: `https://x.test/${'x'.repeat(960)}` }), /^List-Unsubscribe: /m);
  assert.doesNotMatch(prefix({ unsubscribe: `https://x.test/${'x'.repeat(970)}` }), /List-Unsubscribe/);
});

test('without an apex there is no VBR-Info', () => {
  assert.doesNotMatch(prefix({ apex: undefined }), /VBR-Info/);
});

test('a Date and a Message-ID that are there are not added', () => {
  const lines = prefix({}, 'date: x\r\nmessage-id: <1@reef.test>\r\n');
  assert.doesNotMatch(lines, /^(Date|Message-ID):/m);
});

test('what must not travel, and what only we write, is cut out; every other octet stays', () => {
  const kept = 'From:  a@reef.test\r\nSUBJECT: x\r\n\ty\r\n';
  const cut = 'BCC: b@reef.test,\r\n c@reef.test\r\nReturn-Path: <x>\r\nX-Atmos-Id: 1\r\nx-atmos-any: 2\r\n';
  const more = 'Feedback-ID: a:b\r\nVBR-Info: md=x\r\nList-Unsubscribe: <x>\r\n';
  const body = '\r\nBcc: not a field \r\n \t\r\n';
  const stripped = strip(messageOf(`${cut}${kept}${more}${body}`)).toString();
  assert.equal(stripped, `${kept}List-Unsubscribe: <x>\r\n${body}`);
});
