import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { decide, defaultPolicy, type Policy, type SightedLabel } from '../../appview/listing/policy.ts';
import {
  Commits,
  cids,
  dayMs,
  june,
  memberDid,
  memoryDatabases,
  strangerDid,
  uriOf,
} from './labels-fixtures.ts';

const harbor = 'did:web:harbor.test';
const meadow = 'did:web:meadow.test';
const policy: Policy = { ...defaultPolicy, roots: [harbor, meadow] };
const old = june - 100 * dayMs;

const commits = new Commits(memoryDatabases().db);
const reef = commits.put('reef.test');
const rival = commits.put('reef.test', { did: strangerDid });

/** A vote of Harbor for reef.test that is long in force, where nothing else is said. */
function label(
  fields: Partial<SignedLabel> = {},
  seen: Partial<Omit<SightedLabel, 'label'>> = {},
): SightedLabel {
  const vote = { ver: 1, src: harbor, uri: reef.uri, cid: reef.cid, val: 'verified-mail-operator' };
  return {
    label: { ...vote, cts: '2026-01-01T00:00:00.000Z', sig: new Uint8Array(64), ...fields },
    ...{ orderedAt: old, receivedAt: old, firstSeen: old },
    ...seen,
  };
}

function decideReef(labels: SightedLabel[], with_: Partial<Policy> = {}, now = june) {
  return decide('reef.test', [{ attestation: reef, labels }], { ...policy, ...with_ }, now);
}

describe('a listing', () => {
  test('is the attestation, who votes for it, and nothing of the feed', () => {
    const { verdict } = decideReef([label({ src: meadow }), label()]);
    assert.deepEqual(verdict?.listing, {
      name: 'reef.test',
      list: 'vouched',
      kind: 4,
      trust: 1,
      mailTypes: ['transaction'],
      coverSubdomains: false,
      did: memberDid,
      vouchers: [harbor, meadow],
    });
    assert.equal(verdict.attestation, reef);
    assert.deepEqual(
      verdict.votes.map(({ issuer, root }) => [issuer, root]),
      [
        [meadow, meadow],
        [harbor, harbor],
      ],
    );
  });

  test('names a root once, however many vote values it gives', () => {
    const votes = [label(), label({ val: 'also-verified' })];
    const { verdict } = decideReef(votes, { voteValues: ['verified-mail-operator', 'also-verified'] });
    assert.deepEqual(verdict?.listing.vouchers, [harbor]);
    assert.equal(verdict.votes.length, 2);
  });

  test('is of kind 3 when a root labels the record relay-member', () => {
    const kindWith = (carrier: SightedLabel) => decideReef([label(), carrier]).verdict?.listing.kind;
    assert.equal(kindWith(label({ val: 'relay-member' })), 3);
    assert.equal(kindWith(label({ val: 'relay-member', src: meadow })), 3);
    assert.equal(kindWith(label({ val: 'relay-member', src: 'did:web:nobody.test' })), 4);
    assert.equal(kindWith(label({ val: 'relay-member', cid: cids[1] })), 4);
    assert.equal(kindWith(label({ val: 'relay-member' }, { expiresAt: june })), 4);
  });
});

describe('no listing', () => {
  const cases: [why: string, labels: SightedLabel[]][] = [
    ['without a label', []],
    ['with a label that is no vote', [label({ val: 'relay-member' })]],
    ['by an issuer that is no root', [label({ src: 'did:web:nobody.test' })]],
    ['on another version of the record', [label({ cid: cids[1] })]],
    ['on no version at all', [label({ cid: undefined })]],
    ['on another record', [label({ uri: uriOf('news.reef.test') })]],
    ['with a negation', [label({ neg: true })]],
    ['from the moment of its expiry', [label({}, { expiresAt: june })]],
  ];
  for (const [why, labels] of cases) {
    test(why, () => assert.equal(decideReef(labels).verdict, undefined));
  }

  test('of a name that is never listed, whoever votes for it', () => {
    assert.deepEqual(decideReef([label()], { neverListed: ['reef.test'] }), {});
  });

  test('when two accounts have counting votes for the domain', () => {
    const both = [
      { attestation: reef, labels: [label()] },
      { attestation: rival, labels: [label({ uri: rival.uri, src: meadow })] },
    ];
    assert.equal(decide('reef.test', both, policy, june).verdict, undefined);
  });

  test('is not what a stranger without a vote can bring about', () => {
    const withStranger = [
      { attestation: rival, labels: [label({ uri: rival.uri, src: 'did:web:nobody.test' })] },
      { attestation: reef, labels: [label()] },
    ];
    assert.equal(decide('reef.test', withStranger, policy, june).verdict?.listing.did, memberDid);
  });
});

describe('trust', () => {
  const trustAt = (now: number, ...labels: SightedLabel[]) =>
    decideReef(labels, {}, now).verdict?.listing.trust;

  test('is 0 for 14 days from our first sight, then 1', () => {
    const seen = label({}, { firstSeen: june });
    assert.equal(trustAt(june, seen), 0);
    assert.equal(trustAt(june + 14 * dayMs - 1, seen), 0);
    assert.equal(trustAt(june + 14 * dayMs, seen), 1);
  });

  test('does not believe a cts', () => {
    assert.equal(trustAt(june, label({ cts: '2020-01-01T00:00:00.000Z' }, { firstSeen: june })), 0);
  });

  test('has the age of the oldest counting vote', () => {
    assert.equal(trustAt(june, label({}, { firstSeen: june }), label({ src: meadow })), 1);
  });

  test('is 1 at once where the policy has no newcomer days', () => {
    const { verdict } = decideReef([label({}, { firstSeen: june })], { newcomerDays: 0 });
    assert.equal(verdict?.listing.trust, 1);
  });
});

describe('the moment of the next change', () => {
  test('is the end of the newcomer days, or the first expiry, whichever comes first', () => {
    const fresh = label({}, { firstSeen: june });
    assert.equal(decideReef([fresh]).changesAt, june + 14 * dayMs);
    const expiring = label({ src: meadow }, { firstSeen: june, expiresAt: june + dayMs });
    assert.equal(decideReef([fresh, expiring]).changesAt, june + dayMs);
    const carrier = label({ val: 'relay-member' }, { expiresAt: june + 5 });
    assert.equal(decideReef([fresh, carrier]).changesAt, june + 5);
  });

  test('is never, where time changes nothing', () => {
    assert.equal(decideReef([label()]).changesAt, undefined);
    assert.equal(decideReef([]).changesAt, undefined);
  });

  test('is known while two accounts dispute: one of their votes may expire', () => {
    const both = [
      { attestation: reef, labels: [label()] },
      { attestation: rival, labels: [label({ uri: rival.uri }, { expiresAt: june + 7 })] },
    ];
    assert.deepEqual(decide('reef.test', both, policy, june), { changesAt: june + 7 });
    assert.equal(decide('reef.test', both, policy, june + 7).verdict?.listing.did, memberDid);
  });
});
