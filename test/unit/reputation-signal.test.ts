import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@atproto/lex-cbor';
import {
  decodeSignal,
  decodeSignalFrame,
  encodeSignal,
  parseSignal,
  type Signal,
  verifySignal,
} from '../../appview/labels/signal.ts';
import { cooperative, harbor, meadow, signalOf } from './reputation-fixtures.ts';

const own = await cooperative(harbor);
const figures = [{ window: '7d', sends: 40, bounces: 3, complaints: 1 }];
const words = { reason: 'spam', evidence: 'figures', figures };
const signal = await signalOf(own, { exp: '2026-12-01T00:00:00.000Z' }, words);

test('a signal comes back from its bytes as it was signed, and holds', () => {
  const read = decodeSignal(encodeSignal(signal));
  assert.deepEqual(read, signal);
  assert.equal(verifySignal(read!, own.key.did()), true);
});

test('a signal holds under its issuer key alone', async () => {
  assert.equal(verifySignal(signal, (await cooperative(meadow)).key.did()), false);
});

const changes: [string, (one: Signal) => Signal][] = [
  ['the reason', (one) => ({ ...one, reason: 'phishing' })],
  ['the class of the evidence', (one) => ({ ...one, evidence: 'review' })],
  ['a figure', (one) => ({ ...one, figures: [{ ...figures[0]!, complaints: 9 }] })],
  ['the figures, left out', ({ figures: _, ...one }) => one],
  ['the end', (one) => ({ ...one, label: { ...one.label, exp: '2027-12-01T00:00:00.000Z' } })],
];
for (const [what, change] of changes) {
  test(`${what} cannot be changed beside the signature`, () => {
    assert.equal(verifySignal(change(signal), own.key.did()), false);
  });
}

test('the label of one signal and the words of another are no signal', async () => {
  const other = await signalOf(own, { uri: 'did:plc:other' }, words);
  assert.equal(verifySignal({ ...other, label: signal.label }, own.key.did()), false);
});

test('a field that no signature covers is left behind', () => {
  const read = parseSignal({
    ...signal,
    recipients: ['ana@example.org'],
    figures: [{ ...figures[0], to: 'ana' }],
  });
  assert.deepEqual(read, signal);
});

test('a negation needs no words', async () => {
  const ended = await signalOf(own, { neg: true }, {});
  assert.equal(verifySignal(decodeSignal(encodeSignal(ended))!, own.key.did()), true);
});

test('frames are signals, notices, errors or malformed', () => {
  const frame = (header: object, body: object) =>
    Buffer.concat([encode(header as never), encode(body as never)]);
  const kinds = [
    decodeSignalFrame(frame({ op: 1, t: '#signals' }, { seq: 3, signals: [] })),
    decodeSignalFrame(frame({ op: 1, t: '#info' }, { name: 'x'.repeat(900) })),
    decodeSignalFrame(frame({ op: -1 }, { error: 'NotServed' })),
    decodeSignalFrame(frame({ op: 1, t: '#later' }, {})),
    decodeSignalFrame(frame({ op: 1, t: '#signals' }, { seq: -3, signals: [] })),
    decodeSignalFrame(Buffer.alloc(2_000_000)),
  ];
  assert.deepEqual(
    kinds.map(({ kind }) => kind),
    ['signals', 'info', 'error', 'unknown', 'malformed', 'malformed'],
  );
  assert.equal((kinds[1] as { name: string }).name.length, 64);
});
