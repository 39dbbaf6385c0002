/** A message ends where RFC 5321 says, however its octets were cut on the way, and none of them changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteBudget } from '../../node/relay/byte-budget.ts';
import { MessageReader } from '../../node/relay/submission-stream.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('submission-stream');
const shards = [
  '\r\n',
  '\r',
  '\n',
  '.',
  '..',
  '\r\n.',
  '\r\n..',
  '\n.\n',
  '\r.\r',
  '\r\n.\r',
  '\n.\r\n',
  '\0',
  'x',
  'word ',
  '\xff',
];

/** RFC 5321 §4.5.2 by the letter, slowly: the oracle. */
function unstuffed(octets: string): { message: string; end: number } | undefined {
  let message = '';
  for (let at = 0; at < octets.length; ) {
    const crlf = octets.indexOf('\r\n', at);
    const end = crlf === -1 ? octets.length : crlf + 2;
    const line = octets.slice(at, end);
    if (line === '.\r\n') return { message, end };
    message += line.startsWith('.') ? line.slice(1) : line;
    at = end;
  }
  return undefined;
}

test('what the reader makes of any octets is what the standard says, wherever they are cut', () => {
  for (let round = fuzz.rounds(20_000); round > 0; round--) {
    let octets = '';
    for (let n = fuzz.below(12); n > 0; n--) octets += fuzz.pick(shards);
    octets += `\r\n.\r\nQUIT\r\n`;
    const budget = new ByteBudget(1e6);
    const reader = new MessageReader({ maxBytes: 1e6, budget });
    const expected = unstuffed(octets)!;
    const whole = Buffer.from(octets, 'latin1');
    let end = -1;
    let at = 0;
    while (end === -1) {
      const next = Math.min(whole.length, at + 1 + fuzz.below(6));
      const found = reader.push(Buffer.from(whole.subarray(at, next)));
      if (found !== -1) end = at + found;
      at = next;
    }
    const input = JSON.stringify(octets);
    assert.equal(end, expected.end, input);
    assert.equal(reader.received, expected.end, input);
    const read = reader.finish();
    assert.ok(read.kind === 'message');
    assert.equal(read.bytes.toString('latin1'), expected.message, input);
    assert.equal(reader.isClean, !/\r(?!\n)|(?<!\r)\n|\0/.test(octets.slice(0, expected.end)), input);
    reader.release();
    assert.ok(budget.take(1e6), 'all octets were given back');
  }
});

test('the memory of a message is its octets, even if every line begins with a dot', () => {
  const budget = new ByteBudget(1e6);
  const reader = new MessageReader({ maxBytes: 1e6, budget });
  for (let n = 0; n < 20; n++) assert.equal(reader.push(Buffer.from('..\r\n'.repeat(10_000))), -1);
  assert.ok(budget.take(1e6 - 600_000) && !budget.take(1));
  budget.release(1e6 - 600_000);
  // Put together it is there twice for a moment, which is too much here.
  assert.equal(reader.push(Buffer.from('.\r\n')), 3);
  const read = reader.finish();
  assert.ok(read.kind === 'refused' && read.problem.entry.code === 'QUEUE_FULL');
  assert.ok(budget.take(1e6));
});

test('a message that is too long is read to its end and dropped', () => {
  const budget = new ByteBudget(1e6);
  const reader = new MessageReader({ maxBytes: 1000, budget });
  for (let n = 0; n < 50; n++) assert.equal(reader.push(Buffer.from('x'.repeat(100))), -1);
  assert.ok(budget.take(1e6), 'nothing of it is kept');
  assert.equal(reader.push(Buffer.from('\r\n.\r\nNOOP\r\n')), 5);
  const read = reader.finish();
  assert.ok(read.kind === 'refused' && read.problem.entry.code === 'MESSAGE_TOO_LARGE');
});

test('chunks are freed once they are put together, but for the one with what follows the message', () => {
  const reader = new MessageReader({ maxBytes: 1e6, budget: new ByteBudget(1e6) });
  const chunk = (text: string) => Buffer.from(new Uint8Array(Buffer.from(text)).buffer);
  const [first, second] = [chunk('Subject: x\r\n\r\n'), chunk(`${'y'.repeat(9_000)}\r\n`)];
  const last = chunk('z\r\n.\r\nNOOP\r\n');
  assert.deepEqual(
    [first, second, last].map((one) => reader.push(one)),
    [-1, -1, 6],
  );
  const read = reader.finish();
  assert.ok(read.kind === 'message');
  assert.equal(read.bytes.toString(), `Subject: x\r\n\r\n${'y'.repeat(9_000)}\r\nz\r\n`);
  assert.deepEqual([first.length, second.length], [0, 0]);
  assert.equal(last.subarray(6).toString(), 'NOOP\r\n');
  reader.release();
  assert.equal(read.bytes.length, 0);
});
