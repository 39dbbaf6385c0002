/** Facts of a member in, labels to issue and to negate out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AttestedDomain, type Decision, decide, type Label } from '../../node/labeler/decision.ts';

const did = 'did:plc:reef';
const uri = `at://${did}/email.atmos.attestation/reef.test`;
const newsUri = `at://${did}/email.atmos.attestation/news.reef.test`;
const operator = 'verified-mail-operator';
const relay = 'relay-member';

const reef: AttestedDomain = { uri, cid: 'cid1', relayMember: false, verdict: 'passed' };
const news: AttestedDomain = { uri: newsUri, cid: 'cid9', relayMember: false, verdict: 'passed' };
const vote: Label = { uri, val: operator, cid: 'cid1' };
const badge: Label = { uri: did, val: operator };
const nothing: Decision = { issue: [], negate: [] };

type Case = {
  claim: string;
  member?: { relay: boolean } | 'none';
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
    inForce: [{ uri, val: 'clean-sender', cid: 'cid1' }],
    expect: nothing,
  },
];

for (const { claim, member = { relay: true }, attested, inForce, expect } of cases) {
  test(claim, () => {
    assert.deepEqual(decide(did, member === 'none' ? undefined : member, attested, inForce), expect);
  });
}
