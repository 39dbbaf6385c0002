/**
 * What strangers send us on the way to a label: DNS answers, the text of their records, declarations.
 * Each comes back as a value, and nothing altered is ever taken for the original.
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { Packet, type Resource } from 'dns2';
import { signDeclaration, verifyDeclaration } from '../../node/cooperative/declaration.ts';
import {
  judgeControlRecord,
  judgeDkim,
  judgeDmarc,
  judgeMx,
  judgeSpf,
} from '../../node/labeler/judgements.ts';
import { type Answer, DnsResolver } from '../../node/resolver.ts';
import { cooperative, dkimRecord } from '../unit/labeler-fixtures.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('labeler-inputs');

function honestReply(question: Buffer): Buffer {
  const response = Packet.createResponseFromRequest(Packet.parse(question));
  const { name, type } = response.questions[0]!;
  const { CNAME, TXT, MX } = Packet.TYPE;
  const add = (record: Partial<Resource>) =>
    response.answers.push({ name, type, class: Packet.CLASS.IN, ttl: 60, ...record } as Resource);
  add({ type: CNAME, domain: 'keys.test' });
  if (type === MX) add({ name: 'keys.test', exchange: 'mx.keys.test', priority: 10 });
  if (type === TXT) add({ name: 'keys.test', data: [dkimRecord, 'and more'] });
  return response.toBuffer();
}

test('a broken DNS answer is an answer of ours, never a throw, and never someone else’s record', async () => {
  const socket = createSocket('udp4');
  socket.on('message', (message, peer) => {
    // The id stays, or the client would rightly wait for the real answer; so does a whole header.
    const reply = fuzz.mutate(honestReply(message), 12);
    socket.send(fuzz.below(8) === 0 ? fuzz.mutate(reply, 2) : reply, peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const servers = [{ host: '127.0.0.1', port: socket.address().port }];
  const resolver = new DnsResolver({ servers, timeoutMs: 50, attempts: 1 });
  const kinds = new Set<string>();
  const ask = async () => {
    const name = `n${fuzz.below(1_000)}.test`;
    const answer: Answer<unknown> = await (fuzz.below(2) ? resolver.txt(name) : resolver.mx(name));
    kinds.add(answer.kind);
    assert.ok(answer.kind !== 'found' || answer.records.length > 0);
  };
  const rounds = fuzz.rounds(500, 40);
  for (let round = 0; round < rounds; round += 25) await Promise.all(Array.from({ length: 25 }, ask));
  socket.close();
  assert.ok(kinds.has('failed') && kinds.has('found'), [...kinds].join());
});

test('no text of a record makes a check throw', () => {
  const seeds = [
    dkimRecord,
    'v=DMARC1; p=reject',
    'v=spf1 include:x.test ~all',
    'did=did:plc:reef',
    '10 mx.test',
  ];
  for (let i = fuzz.rounds(20_000); i > 0; i--) {
    const texts = Array.from({ length: 1 + fuzz.below(3) }, () =>
      fuzz.mutate(Buffer.from(fuzz.pick(seeds))).toString('latin1'),
    );
    for (const judge of [judgeSpf, judgeDmarc]) assert.ok(judge(texts).reason.length > 0);
    assert.ok(judgeDkim(texts, 's1').reason.length > 0);
    assert.ok(judgeControlRecord(texts, 'did:plc:reef').reason.length > 0);
    assert.ok(judgeMx(texts.map((exchange) => ({ exchange, preference: 0 }))).reason.length > 0);
  }
});

test('an altered declaration is refused, whatever was altered', async () => {
  const key = await Secp256k1Keypair.create();
  const issuedAt = Date.parse('2026-11-20T09:00:00Z');
  const iss = 'did:web:harbor.test';
  const bytes = await signDeclaration({ iss, issuedAt, lifetimeMs: 1_000, cooperative, peers: [] }, key);
  const expected = { did: iss, labelKey: key.did() };
  assert.equal(verifyDeclaration(bytes, expected, issuedAt).kind, 'valid');
  const reasons = new Set<string>();
  for (let i = fuzz.rounds(20_000); i > 0; i--) {
    const altered = fuzz.mutate(bytes);
    if (altered.equals(bytes)) continue;
    const result = verifyDeclaration(altered, expected, issuedAt);
    assert.equal(result.kind, 'refused', altered.toString('hex'));
    if (result.kind === 'refused') reasons.add(result.why);
  }
  assert.ok(reasons.has('bad-signature') && reasons.has('not-dag-cbor'), [...reasons].join());
});
