import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { verifySignature as oracle, Secp256k1Keypair } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import { ErrorFrame, Frame, MessageFrame } from '@atproto/xrpc-server';
import {
  decodeFrame,
  decodeLabel,
  encodeLabel,
  labelBytes,
  maxFrameBytes,
  parseLabel,
  type SignedLabel,
  verifyLabel,
} from '../../appview/labels/codec.ts';
import { cids, issuer, memberDid } from './labels-fixtures.ts';
import { encodeLabelsFrame } from './labels-frame.ts';

const harbor = await issuer();
const label = await harbor.sign({});

describe('a label', () => {
  test('that we sign is verified by @atproto/crypto and by ourselves', async () => {
    assert.equal(await oracle(harbor.didKey, labelBytes(label), label.sig), true);
    assert.equal(verifyLabel(label, harbor.didKey), true);
  });

  test('holds under its own issuer key alone', async () => {
    assert.equal(verifyLabel(label, (await issuer()).didKey), false);
  });

  test('breaks with any of its fields', async () => {
    const full = await harbor.sign({ neg: true, exp: '2027-01-01T00:00:00.000Z' });
    const changes: Partial<SignedLabel>[] = [
      { src: 'did:web:meadow.test' },
      { uri: memberDid },
      { cid: cids[1] },
      { val: 'relay-member' },
      { neg: false },
      { cts: '2026-06-01T00:00:00.001Z' },
      { exp: '2028-01-01T00:00:00.000Z' },
    ];
    for (const change of changes) {
      assert.equal(verifyLabel({ ...full, ...change }, harbor.didKey), false, JSON.stringify(change));
    }
    for (const field of ['ver', 'cid', 'neg', 'exp'] as const) {
      assert.equal(verifyLabel({ ...full, [field]: undefined }, harbor.didKey), false, `without ${field}`);
    }
  });

  test('is verified as received: `neg: false` inside the signature and left out of it', async () => {
    const key = await Secp256k1Keypair.create();
    const fields = { ver: 1, src: harbor.did, uri: memberDid, val: 'clean-sender', cts: label.cts };
    for (const signed of [fields, { ...fields, neg: false }]) {
      const received = parseLabel({ ...signed, sig: await key.sign(encode(signed)) });
      assert.ok(received && verifyLabel(received, key.did()));
      assert.equal('neg' in received, 'neg' in signed);
    }
  });

  test('comes without `$type` and without fields that no signature covers', () => {
    const received = parseLabel({ ...label, $type: 'com.atproto.label.defs#label', id: 7 });
    assert.deepEqual(received, label);
  });

  test('is the same after storage', () => {
    assert.deepEqual(decodeLabel(encodeLabel(label)), label);
  });

  test('that breaks the lexicon or has no usable signature is none', () => {
    const broken: [why: string, value: unknown][] = [
      ['not an object', 'label'],
      ['null', null],
      ['no sig', { ...label, sig: undefined }],
      ['short sig', { ...label, sig: label.sig.subarray(1) }],
      ['sig is text', { ...label, sig: 'x'.repeat(64) }],
      ['unknown version', { ...label, ver: 2 }],
      ['src is no DID', { ...label, src: 'harbor.test' }],
      ['uri is a web page', { ...label, uri: 'https://reef.test/' }],
      ['uri names a handle', { ...label, uri: 'at://reef.test/email.atmos.attestation/reef.test' }],
      ['uri is too long', { ...label, uri: `at://${memberDid}/${'a'.repeat(3000)}` }],
      ['val is empty', { ...label, val: '' }],
      ['val is no kebab', { ...label, val: 'Verified Mail' }],
      ['val is too long', { ...label, val: 'a'.repeat(129) }],
      ['neg is a number', { ...label, neg: 1 }],
      ['cid is none', { ...label, cid: 'bafy' }],
      ['cts has no zone', { ...label, cts: '2026-06-01T00:00:00' }],
      ['cts is no date', { ...label, cts: '2026-13-01T00:00:00Z' }],
      ['exp is null', { ...label, exp: null }],
    ];
    for (const [why, value] of broken) assert.equal(parseLabel(value), undefined, why);
  });
});

describe('a frame', () => {
  test('of ours is read by xrpc-server', () => {
    const frame = Frame.fromBytes(encodeLabelsFrame(7, [label]));
    assert.ok(frame instanceof MessageFrame);
    assert.equal(frame.type, '#labels');
    assert.deepEqual(frame.body, { seq: 7, labels: [label] });
  });

  test('of xrpc-server is read by us', () => {
    const labels = new MessageFrame({ seq: 7, labels: [label] }, { type: '#labels' });
    assert.deepEqual(decodeFrame(labels.toBytes()), { kind: 'labels', seq: 7, labels: [label] });
    const info = new MessageFrame({ name: 'OutdatedCursor' }, { type: '#info' });
    assert.deepEqual(decodeFrame(info.toBytes()), { kind: 'info', name: 'OutdatedCursor' });
    const error = new ErrorFrame({ error: 'FutureCursor', message: 'ahead' });
    assert.deepEqual(decodeFrame(error.toBytes()), {
      kind: 'error',
      error: 'FutureCursor',
      message: 'ahead',
    });
  });

  test('of a type that we do not know is passed over, not refused', () => {
    assert.deepEqual(decodeFrame(new MessageFrame({ a: 1 }, { type: '#later' }).toBytes()), {
      kind: 'unknown',
    });
  });

  test('that is malformed is none', () => {
    const header = encode({ op: 1, t: '#labels' });
    const body = encode({ seq: 1, labels: [] });
    const broken: [why: string, bytes: Uint8Array][] = [
      ['empty', new Uint8Array()],
      ['header alone', header],
      ['three items', Buffer.concat([header, body, body])],
      ['truncated', Buffer.concat([header, body.subarray(0, -1)])],
      ['header is an array', Buffer.concat([encode([1]), body])],
      ['no op', Buffer.concat([encode({ t: '#labels' }), body])],
      ['another op', Buffer.concat([encode({ op: 2, t: '#labels' }), body])],
      ['no seq', Buffer.concat([header, encode({ labels: [] })])],
      ['negative seq', Buffer.concat([header, encode({ seq: -1, labels: [] })])],
      ['seq is text', Buffer.concat([header, encode({ seq: '1', labels: [] })])],
      ['labels is a map', Buffer.concat([header, encode({ seq: 1, labels: {} })])],
      ['deep nesting', Buffer.concat([header, Buffer.alloc(200_000, 0x81)])],
      ['too large', new Uint8Array(maxFrameBytes + 1)],
    ];
    for (const [why, bytes] of broken) assert.equal(decodeFrame(bytes), undefined, why);
  });

  test('cannot fill the log with a message of its own length', () => {
    const frame = decodeFrame(
      new ErrorFrame({ error: 'E'.repeat(500), message: 'm'.repeat(5000) }).toBytes(),
    );
    assert.ok(frame?.kind === 'error');
    assert.equal(frame.error.length, 64);
    assert.equal(frame.message?.length, 200);
  });
});
