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
import { judgeDkim } from '../../node/labeler/dkim-record.ts';
import { checkDmarc, organisationalDomain } from '../../node/labeler/dmarc.ts';
import { judgeControlRecord, judgeMx } from '../../node/labeler/judgements.ts';
import { checkSpf } from '../../node/labeler/spf.ts';
import { Witness } from '../../node/labeler/witness.ts';
import { type Answer, DnsResolver, type Resolver } from '../../node/resolver.ts';
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
  const seeds = [dkimRecord, 'v=DMARC1; p=reject', 'did=did:plc:reef', '10 mx.test'];
  for (let i = fuzz.rounds(20_000); i > 0; i--) {
    const texts = Array.from({ length: 1 + fuzz.below(3) }, () =>
      fuzz.mutate(Buffer.from(fuzz.pick(seeds))).toString('latin1'),
    );
    assert.ok(judgeDkim(texts, 's1').reason.length > 0);
    assert.ok(judgeControlRecord(texts, 'did:plc:reef').reason.length > 0);
    assert.ok(judgeMx(texts.map((exchange) => ({ exchange, preference: 0 }))).reason.length > 0);
  }
});

/** Each answer is made up anew, whatever is asked. */
function madeUp(seeds: readonly string[], suffix: () => string): { resolver: Resolver; asked: string[] } {
  const asked: string[] = [];
  const answer = <T>(name: string, record: () => T): Promise<Answer<T>> => {
    asked.push(name);
    const kind = fuzz.below(15) > 0 ? 'found' : fuzz.pick(['none', 'nxdomain', 'failed'] as const);
    if (kind === 'failed') return Promise.resolve({ kind, reason: 'timed out', server: '' });
    if (kind !== 'found') return Promise.resolve({ kind, server: '' });
    const records = Array.from({ length: fuzz.below(30) === 0 ? 2 : 1 }, record);
    return Promise.resolve({ kind, records, server: '' });
  };
  const text = () => {
    const whole = Buffer.from(`${fuzz.pick(seeds)}${suffix()}`);
    return (fuzz.below(8) === 0 ? fuzz.mutate(whole) : whole).toString('latin1');
  };
  const resolver: Resolver = {
    txt: (name) => answer(name, text),
    mx: (name) => answer(name, () => ({ exchange: text(), preference: 0 })),
    a: (name) => answer(name, text),
    aaaa: (name) => answer(name, text),
  };
  return { resolver, asked };
}

test('whatever a tree of SPF records says, it is followed to an end, over a bounded number of questions', async () => {
  const seeds = [
    'v=spf1 include:%{d2}.a.test a mx',
    'v=spf1 exists:%{l1r-}.%{ir}.%{v}.x.test',
    'v=spf1 mx:b.test/24//64 ptr ip4:198.51.100.0/24',
    'v=spf1 redirect=%{o}.r.test',
    'v=spf1',
  ];
  let serial = 0;
  const suffix = () =>
    ` ?include:n${serial++}.test`.repeat(fuzz.below(4)) + fuzz.pick(['', ' ~all', ' +all']);
  const verdicts = new Set<string>();
  let longest = 0;
  for (let i = fuzz.rounds(2_000, 10); i > 0; i--) {
    const { resolver, asked } = madeUp(seeds, suffix);
    const witness = new Witness(resolver, () => 0);
    const { verdict, reason } = await checkSpf('reef.test', witness);
    verdicts.add(verdict);
    assert.ok(reason.length > 0 && reason.length < 4_000, reason);
    longest = Math.max(longest, asked.length);
    assert.ok(JSON.stringify(witness.observations).length < 40_000);
  }
  // Its own record, ten lookups, and IPv6 beside IPv4.
  assert.ok(longest > 10 && longest <= 21, `${longest}`);
  assert.equal(verdicts.size, 3);
});

test('one huge SPF or DMARC record costs no time', async () => {
  const parts = [
    'v=spf1 ',
    '%{',
    'a',
    '/',
    ' ',
    '.',
    'include:',
    'ip4:',
    '1',
    '%',
    'v=DMARC1;',
    'p=',
    ';',
    '=',
  ];
  const began = performance.now();
  const rounds = fuzz.rounds(60, 20);
  for (let i = rounds; i > 0; i--) {
    const [one, two] = [fuzz.pick(parts), fuzz.pick(parts)];
    for (const start of ['v=spf1 ', 'v=spf1 include:', 'v=spf1 a', 'v=DMARC1; p=']) {
      const record = `${start}${`${one}${two}`.repeat(16_000 / (one.length + two.length))}!`;
      const resolver = madeUp([record], () => '').resolver;
      await checkSpf('reef.test', new Witness(resolver, () => 0));
      await checkDmarc('reef.test', new Witness(resolver, () => 0));
    }
  }
  assert.ok(performance.now() - began < rounds * 200, `${performance.now() - began} ms`);
});

test('DMARC of any record and any name is a finding after two questions at most', async () => {
  const seeds = ['v=DMARC1; p=reject; sp=none; pct=50; rua=mailto:d@reef.test', 'v=DMARC1;p=quarantine;t=y'];
  for (let i = fuzz.rounds(5_000); i > 0; i--) {
    const { resolver, asked } = madeUp(seeds, () => '');
    const domain = fuzz.mutate(Buffer.from('mail.xn--85x722f.co.uk')).toString('latin1');
    const { reason } = await checkDmarc(domain, new Witness(resolver, () => 0));
    assert.ok(reason.length > 0 && asked.length <= 2);
    assert.ok(domain.endsWith(organisationalDomain(domain)));
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
