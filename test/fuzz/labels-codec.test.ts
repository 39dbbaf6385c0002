/**
 * Bytes of a label stream from anyone: the codec answers with a value or a refusal, never a throw, and
 * no label but the one that its issuer signed ever verifies.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@atproto/lex-cbor';
import type { LexMap } from '@atproto/lex-data';
import { ErrorFrame, MessageFrame } from '@atproto/xrpc-server';
import {
  decodeFrame,
  decodeLabel,
  encodeLabel,
  labelBytes,
  parseLabel,
  verifyLabel,
} from '../../appview/labels/codec.ts';
import { iso, issuer, june, memberDid } from '../unit/labels-fixtures.ts';
import { encodeLabelsFrame } from '../unit/labels-frame.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('labels-codec');
const harbor = await issuer();
const labels = [
  await harbor.sign({}),
  await harbor.sign({ uri: memberDid, cid: undefined, neg: true }),
  await harbor.sign({ neg: false, exp: iso(june + 1) }),
];

test('mutated frames never throw, and what they carry is refused or is a label', () => {
  const frames = [
    encodeLabelsFrame(7, labels),
    encodeLabelsFrame(8, []),
    new MessageFrame({ name: 'OutdatedCursor', message: 'too old' }, { type: '#info' }).toBytes(),
    new ErrorFrame({ error: 'FutureCursor' }).toBytes(),
  ];
  const rounds = fuzz.rounds(20_000);
  let decoded = 0;
  for (let round = 0; round < rounds; round++) {
    const frame = decodeFrame(fuzz.mutate(fuzz.pick(frames)));
    if (frame?.kind !== 'labels') continue;
    decoded += 1;
    for (const value of frame.labels) parseLabel(value);
  }
  // Otherwise the mutations only ever met the outermost check.
  assert.ok(decoded > rounds / 100, `only ${decoded} frames were decoded`);
});

test('random bytes are no frame and no label', () => {
  for (let i = fuzz.rounds(20_000); i > 0; i--) {
    const bytes = Buffer.from(Array.from({ length: fuzz.below(64) }, () => fuzz.below(256)));
    decodeFrame(bytes);
    assert.equal(decodeLabel(bytes), undefined);
  }
});

test('a label that verifies says what its issuer signed', () => {
  const signed = new Set(labels.map((label) => Buffer.from(labelBytes(label)).toString('hex')));
  for (let i = fuzz.rounds(5_000); i > 0; i--) {
    const label = decodeLabel(fuzz.mutate(encodeLabel(fuzz.pick(labels))));
    if (!label || !verifyLabel(label, harbor.didKey)) continue;
    assert.ok(signed.has(Buffer.from(labelBytes(label)).toString('hex')), JSON.stringify(label));
  }
});

test('any value in any field is refused or survives storage as it is', () => {
  const values = [undefined, null, 0, -1, 1, 1.5, '', 'x', 'é'.repeat(200), true, [], {}, new Uint8Array(64)];
  const fields = [
    'ver',
    'src',
    'uri',
    'cid',
    'val',
    'neg',
    'cts',
    'exp',
    'sig',
    '$type',
    '__proto__',
    'more',
  ];
  for (let i = fuzz.rounds(5_000); i > 0; i--) {
    const changed: Record<string, unknown> = { ...fuzz.pick(labels) };
    for (let n = 1 + fuzz.below(3); n > 0; n--) {
      changed[fuzz.pick(fields)] = fuzz.pick(values);
    }
    const label = parseLabel(changed);
    if (label) assert.deepEqual(decodeLabel(encode(label)), label);
  }
});

test('a label is written as lex-cbor writes it', () => {
  const texts = [
    '',
    'a',
    'é'.repeat(20),
    '\u{1f98e}'.repeat(50),
    'x'.repeat(255),
    'y'.repeat(2900),
    'z'.repeat(23),
  ];
  for (let i = fuzz.rounds(5_000); i > 0; i--) {
    const label: Record<string, unknown> = {
      ...fuzz.pick(labels),
      uri: fuzz.pick(texts),
      val: fuzz.pick(texts),
      ...(fuzz.below(2) && { exp: fuzz.pick(texts), neg: fuzz.below(2) === 1 }),
    };
    if (fuzz.below(2)) delete label.ver;
    const { sig, ...fields } = label;
    const written = label as (typeof labels)[number];
    assert.deepEqual(Buffer.from(labelBytes(written)), Buffer.from(encode(fields as LexMap)));
    assert.deepEqual(Buffer.from(encodeLabel(written)), Buffer.from(encode({ ...fields, sig } as LexMap)));
  }
});
