import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fieldOf, readMessage } from '../sandbox/readable.ts';

const message = (...lines: string[]) => Buffer.from(lines.join('\r\n'), 'latin1');

for (const [what, raw, text] of [
  ['a message without MIME', message('Subject: x', '', 'Hello'), 'Hello'],
  ['bare line feeds', Buffer.from('Subject: x\n\nHello\nthere'), 'Hello\nthere'],
  ['no header at all', message('', 'Hello'), 'Hello'],
  [
    'quoted-printable',
    message('Content-Transfer-Encoding: quoted-printable', '', 'caf=C3=A9 =', 'noir'),
    'café noir',
  ],
  ['base64', message('Content-Transfer-Encoding: base64', '', 'Y2Fmw6k='), 'café'],
  ['another charset', message('Content-Type: text/plain; charset=iso-8859-1', '', 'caf\xe9'), 'café'],
  ['an unknown charset', message('Content-Type: text/plain; charset=klingon', '', 'Hello'), 'Hello'],
  ['HTML alone', message('Content-Type: text/html', '', '<b>Hello</b>'), undefined],
  [
    'the text beside HTML, also nested',
    message(
      'Content-Type: multipart/mixed; boundary="a.b"',
      '',
      'preamble',
      '--a.b',
      'Content-Type: multipart/alternative; boundary=c',
      '',
      '--c',
      'Content-Type: text/html',
      '',
      '<b>no</b>',
      '--c',
      'Content-Type: text/plain; charset=utf-8',
      '',
      'yes',
      '--c--',
      '--a.b--',
      'epilogue',
    ),
    'yes',
  ],
  [
    'a part without its end',
    message('Content-Type: multipart/mixed; boundary=c', '', '--c', '', 'Hello'),
    'Hello',
  ],
  [
    'a multipart without parts',
    message('Content-Type: multipart/mixed; boundary=c', '', 'nothing'),
    undefined,
  ],
] as const) {
  test(`the text of ${what}`, () => assert.equal(readMessage(raw).text, text));
}

for (const [value, decoded] of [
  ['=?utf-8?q?caf=C3=A9_noir?=', 'café noir'],
  ['=?UTF-8?B?w6k=?= =?utf-8?b?w6k=?=', 'éé'],
  ['=?iso-8859-1*fr?Q?=E9?= and more', 'é and more'],
  ['=?klingon?q?x?=', 'x'],
  ['=?utf-8?x?nothing?=', '=?utf-8?x?nothing?='],
] as const) {
  test(`the header value ${value}`, () => {
    const { fields } = readMessage(message(`Subject: ${value}`, '', ''));
    assert.equal(fieldOf(fields, 'subject'), decoded);
  });
}

test('folded fields are whole, and UTF-8 in a header is read', () => {
  const raw = Buffer.from('To: a@reef.test,\r\n b@reef.test\r\nsubject:  é\r\n\r\n');
  const { fields } = readMessage(raw);
  assert.deepEqual(fields, [
    { name: 'To', value: 'a@reef.test, b@reef.test' },
    { name: 'subject', value: 'é' },
  ]);
});

function nested(levels: number): Buffer {
  const headers = Array.from(
    { length: levels },
    (_, i) => `Content-Type: multipart/mixed; boundary=b${i}\r\n\r\n--b${i}`,
  );
  return Buffer.from([...headers, 'Content-Type: text/plain\r\n\r\ndeep'].join('\r\n'));
}

test('a few levels of parts are opened, thousands are not', () => {
  assert.equal(readMessage(nested(8)).text, 'deep');
  assert.equal(readMessage(nested(9)).text, undefined);
  assert.equal(readMessage(nested(3000)).text, undefined);
});
