import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeWords } from '../../node/relay/encoded-words.ts';
import { parseAddress, parseMailboxes } from '../../node/relay/mailbox.ts';
import { cpuMs } from './cpu-time.ts';

const good: [text: string, mailboxes: [address: string, shown: string][]][] = [
  ['a@b.test', [['a@b.test', '']]],
  [' <a@B.Test> ', [['a@b.test', '']]],
  ['Name <a@b.test>', [['a@b.test', 'Name']]],
  ['J. R. Name <a@b.test>', [['a@b.test', 'J. R. Name']]],
  ['"Name, \\"x\\"" <a@b.test>', [['a@b.test', 'Name, "x"']]],
  ['a@b.test (Name (nested \\) x))', [['a@b.test', 'Name (nested \\) x)']]],
  [
    '(x) a@b.test, B <c@d.test>',
    [
      ['a@b.test', 'x'],
      ['c@d.test', 'B'],
    ],
  ],
  ["o'x+tag!#$%&*-/?=^_`{|}~@b.test", [["o'x+tag!#$%&*-/?=^_`{|}~@b.test", '']]],
  ['"a b"@c.test', [['"a b"@c.test', '']]],
  ['a@bücher.test', [['a@xn--bcher-kva.test', '']]],
  ['jané@b.test', [['jané@b.test', '']]],
  ['=?utf-8?q?x?= <a@b.test>', [['a@b.test', '=?utf-8?q?x?=']]],
];
for (const [text, mailboxes] of good) {
  test(`read: ${text}`, () => {
    assert.deepEqual(
      parseMailboxes(text)?.map(({ address, text: shown }) => [address, shown]),
      mailboxes,
    );
  });
}

const bad = [
  ['', 'a', '@', 'a@', '@b.test', 'a@b', 'a@b.test,', ',a@b.test', 'a@b.test c@d.test'],
  ['<a@b.test', 'a@b.test>', '<a@b.test>>', '<<a@b.test>>', '<>', '<a@b.test> x', 'x <a@b.test> <c@d.test>'],
  ['a @b.test', 'a@ b.test', 'a@b .test', 'a@(x)b.test', 'a(x)@b.test', 'a@b.test(x'],
  ['.a@b.test', 'a.@b.test', 'a..b@c.test', '""@b.test', `${'a'.repeat(65)}@b.test`],
  ['a@b..test', 'a@-b.test', 'a@b.test.', 'a@[127.0.0.1]', 'a@127.0.0.1', 'a@b_c.test', 'a@b.test:25'],
  ['x: a@b.test;', '<@x.test:a@b.test>', 'a@b@c.test', '"a@b"@c.test', 'x@y.test <a@b.test>'],
  ['=?utf-8?q?x?=@b.test', '"unclosed <a@b.test>', 'a@b.test\r\n', '"a\nb" <a@b.test>', 'a\0@b.test'],
].flat();
for (const text of bad) {
  test(`not read: ${JSON.stringify(text).slice(0, 60)}`, () => assert.equal(parseMailboxes(text), undefined));
}

test('an address alone has no name, no blank, no brackets', () => {
  assert.deepEqual(parseAddress('a@B.test'), { address: 'a@b.test', domain: 'b.test' });
  for (const text of ['<a@b.test>', 'N <a@b.test>', 'a@b.test(x)', ' a@b.test', 'a@b.test,c@d.test'])
    assert.equal(parseAddress(text), undefined, text);
});

for (const [text, times] of [
  ['<', 400_000],
  ['(', 400_000],
  ['()', 200_000],
  ['a@b.test,', 50_000],
] as const) {
  test(`${times} times ${text}: the work grows with the length, not with its square`, () => {
    assert.ok(cpuMs(() => parseMailboxes(text.repeat(times))) < 10_000);
  });
}

const words: [text: string, shown: string][] = [
  ['=?utf-8?q?Jan=C3=A9_x?=', 'Jané x'],
  ['=?UTF-8?B?SmFuw6k=?=', 'Jané'],
  ['=?iso-8859-1?Q?Jan=E9?=', 'Jané'],
  ['=?utf-8*en?q?a?=', 'a'],
  ['=?utf-8?q?a?= =?utf-8?q?b?= c', 'ab c'],
  ['=?x-unknown?q?a?=', '=?x-unknown?q?a?='],
  ['plain =? text', 'plain =? text'],
];
for (const [text, shown] of words) {
  test(`shown: ${text}`, () => assert.equal(decodeWords(text), shown));
}
