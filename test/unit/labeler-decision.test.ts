/** Facts of a member in, labels to issue and to negate out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AttestedDomain,
  type Decision,
  decide,
  type Label,
  type MemberNow,
} from '../../node/labeler/decision.ts';

const did = 'did:plc:reef';
const uri = `at://${did}/email.atmos.attestation/reef.test`;
const newsUri = `at://${did}/email.atmos.attestation/news.reef.test`;
const operator = 'verified-mail-operator';
const relay = 'relay-member';
const clean = 'clean-sender';

const reef: AttestedDomain = { uri, cid: 'cid1', relayMember: false, cleanSender: false, verdict: 'passed' };
const news: AttestedDomain = {
  uri: newsUri,
  cid: 'cid9',
  relayMember: false,
  cleanSender: false,
  verdict: 'passed',
};
const vote: Label = { uri, val: operator, cid: 'cid1' };
const badge: Label = { uri: did, val: operator };
const cleanVote: Label = { uri, val: clean, cid: 'cid1' };
const cleanBadge: Label = { uri: did, val: clean };
const nothing: Decision = { issue: [], negate: [] };

type Case = {
  claim: string;
  member?: Partial<MemberNow> | 'none';
  attested: AttestedDomain[];
  inForce: Label[];
  expect: Decision;
};

const cases: Case[] = [
  {
    claim: 'a domain that passed gets the vote on its URI with its cid, and the member the badge',
    attested: [reef],
    inForce: [],
    expect: { issue: [vote, badge], negate: [] },
  },
  {
    claim: 'labels that stand are not issued again',
    attested: [reef],
    inForce: [vote, badge],
    expect: nothing,
  },
  {
    claim: 'a new cid that passed is voted for anew; the badge stays',
    attested: [{ ...reef, cid: 'cid2' }],
    inForce: [vote, badge],
    expect: { issue: [{ ...vote, cid: 'cid2' }], negate: [] },
  },
  {
    claim: 'a domain that failed loses the vote, and the member without another domain the badge',
    attested: [{ ...reef, verdict: 'failed' }],
    inForce: [vote, badge],
    expect: { issue: [], negate: [vote, badge] },
  },
  {
    claim: 'the badge stays while another domain earns it',
    attested: [{ ...reef, verdict: 'failed' }, news],
    inForce: [vote, badge, { uri: newsUri, val: operator, cid: 'cid9' }],
    expect: { issue: [], negate: [vote] },
  },
  {
    claim: 'a cid about which nothing is known yet changes nothing',
    attested: [{ ...reef, cid: 'cid2', verdict: 'pending' }],
    inForce: [vote, badge],
    expect: nothing,
  },
  {
    claim: 'a first pending domain earns nothing',
    attested: [{ ...reef, verdict: 'pending' }],
    inForce: [],
    expect: nothing,
  },
  {
    claim: 'an attestation that is gone takes its labels with it',
    attested: [],
    inForce: [vote, badge],
    expect: { issue: [], negate: [vote, badge] },
  },
  {
    claim: 'who is not enrolled any more loses everything, though its DNS is right',
    member: 'none',
    attested: [reef],
    inForce: [vote, badge],
    expect: { issue: [], negate: [vote, badge] },
  },
  {
    claim: 'relay-member needs the record and the right to send here',
    attested: [{ ...reef, relayMember: true }],
    inForce: [vote, badge],
    expect: {
      issue: [
        { uri, val: relay, cid: 'cid1' },
        { uri: did, val: relay },
      ],
      negate: [],
    },
  },
  {
    claim: 'a member enrolled for attestation alone gets no relay-member',
    member: { relay: false },
    attested: [{ ...reef, relayMember: true }],
    inForce: [vote, badge],
    expect: nothing,
  },
  {
    claim: 'a member that loses the relay loses relay-member and keeps the rest',
    member: { relay: false },
    attested: [{ ...reef, relayMember: true }],
    inForce: [vote, { uri, val: relay, cid: 'cid1' }, badge, { uri: did, val: relay }],
    expect: {
      issue: [],
      negate: [
        { uri, val: relay, cid: 'cid1' },
        { uri: did, val: relay },
      ],
    },
  },
  {
    claim: 'labels that follow from something else are left alone',
    attested: [],
    inForce: [{ uri, val: 'suspended-spam', cid: 'cid1' }],
    expect: nothing,
  },
  {
    claim: 'figures that earn it make a clean sender, of a domain that passed',
    attested: [
      { ...reef, cleanSender: true },
      { ...news, cleanSender: true, verdict: 'failed' },
    ],
    inForce: [vote, badge],
    expect: {
      issue: [
        { uri, val: clean, cid: 'cid1' },
        { uri: did, val: clean },
      ],
      negate: [],
    },
  },
  {
    claim: 'a warning takes clean-sender and leaves the rest',
    member: { standing: 'warned' },
    attested: [{ ...reef, cleanSender: true }],
    inForce: [vote, badge, cleanVote, cleanBadge],
    expect: { issue: [], negate: [cleanVote, cleanBadge] },
  },
  {
    claim: 'it takes it also while nothing is known about the record',
    member: { standing: 'warned' },
    attested: [{ ...reef, verdict: 'pending' }],
    inForce: [vote, badge, cleanVote, cleanBadge],
    expect: { issue: [], negate: [cleanVote, cleanBadge] },
  },
  {
    claim: 'who may not relay is no clean sender',
    member: { relay: false },
    attested: [{ ...reef, cleanSender: true }],
    inForce: [vote, badge, cleanVote, cleanBadge],
    expect: { issue: [], negate: [cleanVote, cleanBadge] },
  },
  {
    claim: 'who is suspended or removed carries nothing of ours, and keeps what was decided elsewhere',
    member: { standing: 'stopped' },
    attested: [{ ...reef, cleanSender: true }],
    inForce: [vote, badge, cleanVote, cleanBadge, { uri, val: 'suspended-spam' }],
    expect: { issue: [], negate: [vote, badge, cleanVote, cleanBadge] },
  },
];

for (const { claim, member = {}, attested, inForce, expect } of cases) {
  test(claim, () => {
    const now = member === 'none' ? undefined : { relay: true, standing: 'good' as const, ...member };
    assert.deepEqual(decide(did, now, attested, inForce), expect);
  });
}

test('what is due is issued again, but for a record about which nothing is known', () => {
  const due = () => true;
  const good = { relay: true, standing: 'good' as const };
  assert.deepEqual(decide(did, good, [reef], [vote, badge], due), { issue: [vote, badge], negate: [] });
  const pending = decide(did, good, [{ ...reef, verdict: 'pending' }], [vote], due);
  assert.deepEqual(pending, { issue: [badge], negate: [] });
  // Of two labels one is due.
  const one = decide(did, good, [reef], [vote, badge], ({ uri: on }) => on === uri);
  assert.deepEqual(one, { issue: [vote], negate: [] });
});
