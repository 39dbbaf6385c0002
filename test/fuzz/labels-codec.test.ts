/**
 * Bytes of a label stream from anyone: the codec answers with a value or a refusal, never a throw, and
 * no label but the one that its issuer signed ever verifies.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { encode } from '@atproto/lex-cbor';
import {
  decodeFrame,
  decodeLabel,
  encodeErrorFrame,
  encodeInfoFrame,
  encodeLabel,
  encodeLabelsFrame,
  labelBytes,
  parseLabel,
  verifyLabel,
} from '../../appview/labels/codec.ts';
import { iso, issuer, june, memberDid } from '../unit/labels-fixtures.ts';

const rounds = Number(process.env.ATMOS_FUZZ_ROUNDS ?? 20_000);
const seed = Number(process.env.ATMOS_FUZZ_SEED ?? randomInt(2 ** 31));
console.log(`labels-codec: seed ${seed}, ${rounds} rounds (ATMOS_FUZZ_SEED, ATMOS_FUZZ_ROUNDS)`);

/** mulberry32: 0 ≤ n < 1, the same for the same seed. */
function randomFrom(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomFrom(seed);
const below = (n: number) => Math.floor(random() * n);

/** Bytes changed, cut, doubled or put in: what stays is near enough to valid to get deep. */
function mutate(bytes: Uint8Array): Buffer {
  let out = Buffer.from(bytes);
  for (let n = 1 + below(4); n > 0; n--) {
    const at = below(out.length + 1);
    const kind = below(4);
    if (kind === 0 && out.length > 0) out[at % out.length] = below(256);
    else if (kind === 1) out = out.subarray(0, at);
    else if (kind === 2) out = Buffer.concat([out.subarray(0, at), out.subarray(below(at + 1))]);
    else out = Buffer.concat([out.subarray(0, at), Buffer.from([below(256)]), out.subarray(at)]);
  }
  return out;
}

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
    encodeInfoFrame('OutdatedCursor', 'too old'),
    encodeErrorFrame('FutureCursor'),
  ];
  let decoded = 0;
  for (let round = 0; round < rounds; round++) {
    const frame = decodeFrame(mutate(frames[below(frames.length)]!));
    if (frame?.kind !== 'labels') continue;
    decoded += 1;
    for (const value of frame.labels) parseLabel(value);
  }
  // Otherwise the mutations only ever met the outermost check.
  assert.ok(decoded > rounds / 100, `only ${decoded} frames were decoded`);
});

test('random bytes are no frame and no label', () => {
  for (let round = 0; round < rounds; round++) {
    const bytes = Buffer.from(Array.from({ length: below(64) }, () => below(256)));
    decodeFrame(bytes);
    assert.equal(decodeLabel(bytes), undefined);
  }
});

test('a label that verifies says what its issuer signed', () => {
  const signed = new Set(labels.map((label) => Buffer.from(labelBytes(label)).toString('hex')));
  for (let round = 0; round < rounds / 4; round++) {
    const label = decodeLabel(mutate(encodeLabel(labels[below(labels.length)]!)));
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
  for (let round = 0; round < rounds / 4; round++) {
    const changed: Record<string, unknown> = { ...labels[below(labels.length)] };
    for (let n = 1 + below(3); n > 0; n--) {
      changed[fields[below(fields.length)]!] = values[below(values.length)];
    }
    const label = parseLabel(changed);
    if (label) assert.deepEqual(decodeLabel(encode(label)), label);
  }
});
