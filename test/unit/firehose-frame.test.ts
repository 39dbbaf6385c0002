import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@atproto/lex-cbor';
import { parseCid } from '@atproto/lex-data';
import {
  decodeAccount,
  decodeCommit,
  decodeNotice,
  maxFrameBytes,
  readHead,
} from '../../appview/firehose/frame.ts';
import { concernsUs } from '../../appview/firehose/match.ts';
import { tidTime } from '../../appview/firehose/tid.ts';
import { errorFrame, frame } from './firehose-fixtures.ts';
import { cids, memberDid as did } from './labels-fixtures.ts';

const cid = parseCid(cids[0]);
const path = 'email.atmos.attestation/reef.test';
const commit = {
  ...{ seq: 4_294_967_296, repo: did, rev: '3lqq2rlhtkc2k', since: null, commit: cid },
  blocks: Buffer.from('car'),
  ops: [
    { action: 'create', path, cid },
    { action: 'delete', path: 'app.bsky.feed.post/cseq', cid: null },
  ],
  blobs: [],
  time: '2026-06-01T00:00:00.000Z',
};

test('the head of a commit, however large its seq', () => {
  const bytes = frame('#commit', commit);
  const head = readHead(bytes)!;
  assert.deepEqual(
    { ...head, body: head.body.length },
    { type: '#commit', seq: 4_294_967_296, did, rev: '3lqq2rlhtkc2k', body: bytes.length - 15 },
  );
});

test('the head of the other frames', () => {
  for (const type of ['#identity', '#account', '#sync', '#future']) {
    const head = readHead(frame(type, { seq: 300, did, repo: 'did:web:other.test' }));
    assert.deepEqual([head?.type, head?.seq, head?.did], [type, 300, did]);
  }
  assert.deepEqual(readHead(errorFrame('FutureCursor'))?.type, '');
  assert.equal(readHead(frame('#info', { name: 'OutdatedCursor' }))?.seq, undefined);
});

test('a commit with its operations', () => {
  const { did: repo, ops, ...rest } = decodeCommit(readHead(frame('#commit', commit))!.body)!;
  assert.equal(repo, did);
  assert.deepEqual(ops, [
    { action: 'create', path, cid: cids[0] },
    { action: 'delete', path: 'app.bsky.feed.post/cseq' },
  ]);
  assert.deepEqual(rest, { rev: commit.rev, commit: cids[0], blocks: new Uint8Array(commit.blocks) });
});

const brokenCommits: [string, Record<string, unknown>][] = [
  ['no repo', { repo: undefined }],
  ['a commit that is no CID', { commit: cids[0] }],
  ['blocks that are no bytes', { blocks: 'car' }],
  ['blocks over 2 MB', { blocks: Buffer.alloc(2_000_001) }],
  ['operations that are no list', { ops: {} }],
  ['more than 200 operations', { ops: Array.from({ length: 201 }, () => commit.ops[0]) }],
  ['an unknown action', { ops: [{ action: 'rename', path, cid }] }],
  ['a create without a cid', { ops: [{ action: 'create', path, cid: null }] }],
  ['an operation without a path', { ops: [{ action: 'delete', cid: null }] }],
  ['an operation that is null', { ops: [null] }],
];
for (const [name, fields] of brokenCommits) {
  test(`a commit with ${name} is none`, () => {
    assert.equal(decodeCommit(encode({ ...commit, ...fields } as never)), undefined);
  });
}

test('an account event, active or not', () => {
  const event = { seq: 1, did, time: '2026-06-01T00:00:00.000Z' };
  assert.deepEqual(decodeAccount(encode({ ...event, active: true })), {
    ...{ did, active: true, time: 1_780_272_000_000 },
  });
  assert.equal(decodeAccount(encode({ ...event, active: false, status: 'deleted' }))?.status, 'deleted');
  for (const status of ['active', 7, undefined]) {
    assert.equal(decodeAccount(encode({ ...event, active: false, status }))?.status, undefined);
  }
  assert.equal(decodeAccount(encode({ ...event, active: 'yes' })), undefined);
  assert.equal(decodeAccount(encode({ ...event, active: true, time: 'soon' })), undefined);
});

test('a notice is text, whatever it carries', () => {
  assert.deepEqual(decodeNotice(encode({ error: 'FutureCursor', message: 'no' })), {
    ...{ name: 'FutureCursor', message: 'no' },
  });
  assert.deepEqual(decodeNotice(encode({ name: 7 })), { name: '', message: '' });
  assert.equal(decodeNotice(encode({ error: 'x'.repeat(999) })).name.length, 256);
});

const noFrames: [string, Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['text', Buffer.from('{"seq":1}')],
  ['a header alone', Buffer.from(encode({ op: 1, t: '#commit' }))],
  ['a payload that is cut', frame('#commit', commit).subarray(0, -1)],
  ['something after the payload', Buffer.concat([frame('#commit', commit), Buffer.alloc(1)])],
  ['a payload that is a list', Buffer.concat([encode({ op: 1, t: '#commit' }), encode([1])])],
  ['a map of more members than bytes', Buffer.from('bbffffffffffffffff', 'hex')],
  ['a map without an end (indefinite length)', Buffer.from('bf616101ff', 'hex')],
  ['more than 5 MB', frame('#commit', { ...commit, blocks: Buffer.alloc(maxFrameBytes) })],
];
for (const [name, bytes] of noFrames) {
  test(`${name} is no frame`, () => {
    assert.equal(readHead(bytes), undefined);
  });
}

test('nesting without end neither throws nor hangs', () => {
  const deep = Buffer.concat([Buffer.alloc(4_000_000, 0x81), Buffer.from([0])]);
  const bytes = Buffer.concat([encode({ op: 1, t: '#commit' }), Buffer.from('a1636f7073', 'hex'), deep]);
  const head = readHead(bytes)!;
  assert.equal(head.type, '#commit');
  assert.equal(decodeCommit(head.body), undefined);
});

test('a commit concerns us when it names our collection', () => {
  const known = () => assert.fail('not asked');
  assert.equal(concernsUs(readHead(frame('#commit', commit))!, known), true);
  const others = [{ action: 'create', path: 'email.atmos.attestationx/a', cid }];
  assert.equal(concernsUs(readHead(frame('#commit', { ...commit, ops: others }))!, known), false);
});

test('account and sync events concern us when we know the account, identity events always', () => {
  for (const [type, ifKnown, ifNot] of [
    ['#account', true, false],
    ['#sync', true, false],
    ['#identity', true, true],
    ['#future', false, false],
  ] as const) {
    const head = readHead(frame(type, { seq: 1, did }))!;
    assert.equal(
      concernsUs(head, (asked) => asked === did),
      ifKnown,
      type,
    );
    assert.equal(
      concernsUs(head, () => false),
      ifNot,
      type,
    );
  }
});

test('the time of a TID', () => {
  // Made by the reference implementation at 2026-06-01T00:00:00.000Z: see TID.fromTime in @atproto/common-web.
  assert.equal(tidTime('3mn6rk4ns2222'), 1_780_272_000_000);
  for (const text of ['', '3mn6rk4ns222', '3MN6RK4NS2222', '0mn6rk4ns2222', 'zmn6rk4ns2222']) {
    assert.equal(tidTime(text), undefined, text);
  }
});
