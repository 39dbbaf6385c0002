/**
 * What strangers send us on the way to an attestation: frames, CARs, DID documents. None makes us throw,
 * and nothing altered is ever taken for what the account signed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDidKey } from '@atproto/crypto';
import { decodeAll } from '@atproto/lex-cbor';
import { Attestations } from '../../appview/firehose/attestations.ts';
import { decodeAccount, decodeCommit, decodeNotice, readHead } from '../../appview/firehose/frame.ts';
import { concernsUs } from '../../appview/firehose/match.ts';
import { prove } from '../../appview/firehose/proof.ts';
import { FrameReader, SourceError } from '../../appview/firehose/reader.ts';
import { Identities } from '../../appview/identity/did.ts';
import { parseDidDocument } from '../../appview/identity/document.ts';
import { FetchFailed, type GuardedFetch } from '../../appview/identity/fetch.ts';
import {
  Author,
  attestation,
  collection,
  commitFrame,
  errorFrame,
  frame,
} from '../unit/firehose-fixtures.ts';
import { counters, memoryDatabases, quiet } from '../unit/labels-fixtures.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('firehose-inputs');
const author = await Author.create();
await author.fill(40);
const created = await author.attest('reef.test');
const document = author.document('https://pds.test');
const path = `${collection}/reef.test`;
const time = '2026-06-01T00:00:00.000Z';
const frames = [
  commitFrame(7, created),
  frame('#account', { seq: 8, did: author.did, active: false, status: 'deleted', time }),
  frame('#identity', { seq: 9, did: author.did, time }),
  frame('#sync', { seq: 10, did: author.did, rev: created.rev, blocks: created.blocks, time }),
  frame('#info', { name: 'OutdatedCursor' }),
  errorFrame('ConsumerTooSlow'),
];

test('of any bytes, the head that is scanned is the one that a decoder reads', () => {
  let heads = 0;
  for (let i = fuzz.rounds(8_000); i > 0; i--) {
    const bytes = fuzz.mutate(fuzz.pick(frames));
    const head = readHead(bytes);
    for (const read of [decodeCommit, decodeAccount, decodeNotice]) read(head?.body ?? bytes);
    const decoded = decodedFrame(bytes);
    if (!head || !decoded) continue;
    heads++;
    const [header, body] = decoded;
    assert.equal(head.type, typeof header.t === 'string' ? header.t : '');
    const account = body[head.type === '#commit' ? 'repo' : 'did'];
    assert.equal(head.did, typeof account === 'string' ? account : undefined);
    const seq = body.seq;
    assert.equal(head.seq, typeof seq === 'number' && seq >= 0 ? seq : undefined);
    if (head.type === '#commit' && namesOurs(body)) assert.ok(concernsUs(head, () => false));
  }
  assert.ok(heads > 0, 'some of them were frames');
});

test('of an altered CAR, nothing is proved but what the account signed', async () => {
  const truth = { path, cid: created.ops[0]!.cid!.toString(), value: attestation('reef.test') };
  const claim = { did: author.did, signingKey: author.key.did(), paths: [path], now: Date.now() };
  let refused = 0;
  for (let i = fuzz.rounds(600); i > 0; i--) {
    const proof = await prove(fuzz.mutate(created.blocks), claim);
    if (proof.kind === 'refused') refused++;
    else assert.deepEqual(proof.records, [truth]);
  }
  assert.ok(refused > 0, 'some of them were broken');
});

test('of altered frames, a reader indexes nothing but what the account signed', async () => {
  const { db } = memoryDatabases();
  const shared = { log: quiet, count: counters().count, now: () => Date.now() };
  const attestations = new Attestations({ db, ...shared });
  const fetch: GuardedFetch = async (url) => {
    if (!url.endsWith(author.did)) throw new FetchFailed('not here');
    return { status: 200, headers: {}, body: Buffer.from(JSON.stringify(document)) };
  };
  const reader = new FrameReader({
    ...{ ...shared, attestations, source: 'wss://relay.test', signal: new AbortController().signal },
    identities: new Identities({ plcUrl: 'https://plc.test', fetch, now: shared.now }),
    onPostponed: () => undefined,
  });
  let indexed = 0;
  for (let i = fuzz.rounds(2_000); i > 0; i--) {
    await reader.read(fuzz.mutate(fuzz.pick(frames))).catch((error: unknown) => {
      if (!(error instanceof SourceError)) throw error;
    });
    for (const row of attestations.of(author.did)) {
      assert.deepEqual([row.rkey, row.cid], ['reef.test', created.ops[0]!.cid!.toString()]);
      indexed++;
    }
    assert.ok(attestations.domains().every((domain) => domain === 'reef.test'));
  }
  assert.ok(indexed > 0, 'some of them were taken');
  db.close();
});

test('of any document, an identity carries only what can be used', () => {
  const text = Buffer.from(JSON.stringify(document));
  let whole = 0;
  for (let i = fuzz.rounds(3_000); i > 0; i--) {
    const json = parsed(
      fuzz.below(2) === 0 ? fuzz.mutate(text).toString() : JSON.stringify(regrown(document)),
    );
    const identity = parseDidDocument(json, author.did);
    if (!identity) continue;
    whole++;
    if (identity.signingKey) parseDidKey(identity.signingKey);
    if (identity.pds) assert.equal(new URL(identity.pds).origin, identity.pds);
    if (identity.handle) assert.match(identity.handle, /^[a-z0-9.-]+\.[a-z0-9-]+$/);
  }
  assert.ok(whole > 0, 'some of them were documents');
});

/** Header and payload by the reference decoder; undefined when it refuses them. */
function decodedFrame(bytes: Uint8Array): [Record<string, unknown>, Record<string, unknown>] | undefined {
  try {
    const [header, body, ...more] = [...decodeAll(bytes)] as Record<string, unknown>[];
    return header && body && more.length === 0 ? [header, body] : undefined;
  } catch {
    return undefined;
  }
}

function namesOurs({ ops }: Record<string, unknown>): boolean {
  return Array.isArray(ops) && ops.some((op) => String(op?.path).startsWith(`${collection}/`));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The same shape with some of its values of another kind. */
function regrown(value: unknown): unknown {
  if (fuzz.below(12) === 0)
    return fuzz.pick([null, 0, '', 'at://', [], {}, [null], { id: '#atproto' }, value]);
  if (Array.isArray(value)) return value.map(regrown);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, regrown(member)]));
}
