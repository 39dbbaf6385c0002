import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fieldsNamed, fieldValue, parseMessage, withoutFields } from '../../node/relay/message.ts';

/** `\n` stands for CR LF. */
function parse(text: string) {
  return parseMessage(Buffer.from(text.replaceAll('\n', '\r\n'), 'latin1'));
}

function fieldsOf(text: string): [string, string][] {
  const parsed = parse(text);
  assert.ok(parsed.kind === 'message', JSON.stringify(parsed));
  return parsed.message.fields.map((field) => [field.name, fieldValue(parsed.message, field)]);
}

const headers: [name: string, text: string, fields: [string, string][]][] = [
  ['one field', 'From: a\n\nbody\n', [['from', 'a']]],
  ['no blank behind the colon', 'From:a\n\n', [['from', 'a']]],
  ['an empty value', 'X:\n\n', [['x', '']]],
  ['folding', 'X: a\n b\n\tc\n\n', [['x', 'a b\tc']]],
  ['no body at all', 'X: a\n', [['x', 'a']]],
  ['a body that looks like a header', 'X: a\n\nFrom: b\n', [['x', 'a']]],
  ['a colon in the value', 'X: a:b\n\n', [['x', 'a:b']]],
  ['no header at all', '\nbody\n', []],
  ['nothing', '', []],
];
for (const [name, text, fields] of headers) {
  test(`the header is read: ${name}`, () => assert.deepEqual(fieldsOf(text), fields));
}

const faults: [name: string, bytes: string, what: RegExp][] = [
  ['a bare LF', 'X: a\r\n\r\nb\nc\r\n', /^Line 3 /],
  ['a bare CR', 'X: a\r\n\r\nb\rc\r\n', /^Line 3 /],
  ['a CR as the last octet', 'X: a\r\n\r\nb\r', /^Line 3 /],
  ['an LF as the first octet', '\nX: a\r\n', /^Line 1 /],
  ['a NUL', 'X: a\r\n\r\n\0\r\n', /^Line 3 /],
  ['a header without its last CR LF', 'X: a', /no CR LF/],
  ['a line without a colon', 'X: a\r\nnonsense\r\n\r\n', /^Header line 2: /],
  ['a blank in the name', 'X Y: a\r\n\r\n', /^Header line 1: /],
  ['a blank before the colon', 'X : a\r\n\r\n', /^Header line 1: /],
  ['no name', ': a\r\n\r\n', /^Header line 1: /],
  ['an 8-bit name', 'X\xe9: a\r\n\r\n', /^Header line 1: /],
  ['a continuation first', ' a\r\n\r\n', /continuation/],
  ['a blank folded line', 'X: a\r\n \t\r\n\r\n', /blank/],
  ['From twice', 'From: a\r\nFROM: b\r\n\r\n', /from stands more than once/],
  ['Content-Type twice', 'content-type: a\r\nContent-Type: b\r\n\r\n', /content-type stands more than once/],
  ['1001 fields', 'X: a\r\n'.repeat(1001), /more than 1000 fields/],
  ['999 octets in a body line', `X: a\r\n\r\nb\r\n${'a'.repeat(999)}\r\nc\r\n`, /^Line 4 .*998/],
  ['999 octets in a header line', `X: ${'a'.repeat(996)}\r\n\r\nb\r\n`, /^Line 1 .*998/],
  ['999 octets as the last line', `X: a\r\n\r\n${'a'.repeat(999)}\r\n`, /^Line 3 .*998/],
  ['999 octets without a line end', `X: a\r\n\r\n${'a'.repeat(999)}`, /^Line 3 .*998/],
  ['octets count, not characters', `X: a\r\n\r\n${'\xc3\xa9'.repeat(500)}\r\n`, /^Line 3 .*998/],
  ['a long line behind many', `X: a\r\n\r\n${'b\r\n'.repeat(2000)}${'a'.repeat(5000)}\r\n`, /^Line 2003 /],
  ['a header beyond 256 KiB', `X: ${'a'.repeat(300_000)}\r\n\r\n`, /longer than 262144/],
];
for (const [name, bytes, what] of faults) {
  test(`a fault is named: ${name}`, () => {
    const parsed = parseMessage(Buffer.from(bytes, 'latin1'));
    assert.ok(parsed.kind === 'fault');
    assert.match(parsed.what, what);
  });
}

test('lines of 998 octets are lines, wherever they begin', () => {
  for (let shift = 0; shift < 20; shift++) {
    const line = `${'a'.repeat(998)}\r\n`;
    const text = `X: a\r\n\r\n${'b'.repeat(shift)}\r\n${line.repeat(5)}c\r\n${line}`;
    assert.equal(parseMessage(Buffer.from(text)).kind, 'message');
  }
});

test('a fault comes with the fields that were read before it', () => {
  const parsed = parse('From: a@b.test\nnonsense\nX: y\n\n');
  assert.ok(parsed.kind === 'fault');
  assert.deepEqual(
    parsed.message.fields.map(({ name }) => name),
    ['from'],
  );
});

test('cutting fields out leaves every other byte, folded fields go whole', () => {
  const parsed = parse('A: 1\nBcc: x\n y\nC:2\nbcc: z\n\nBcc: body\n');
  assert.ok(parsed.kind === 'message');
  const rest = withoutFields(parsed.message, (name) => name === 'bcc').toString();
  assert.equal(rest, 'A: 1\r\nC:2\r\n\r\nBcc: body\r\n');
});

test('where nothing is to be cut the message is the very same bytes, not a copy', () => {
  const parsed = parse('A: 1\n\nb\n');
  assert.ok(parsed.kind === 'message');
  assert.equal(
    withoutFields(parsed.message, () => false),
    parsed.message.bytes,
  );
});

test('fields are found whatever their case and number', () => {
  const parsed = parse('Received: 1\nreceived: 2\nX: 3\n\n');
  assert.ok(parsed.kind === 'message');
  assert.equal(fieldsNamed(parsed.message.fields, 'received').length, 2);
});
