/** Certificates of every kind under every demand: what opens, and what is never told to the wrong peer. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { before, test } from 'node:test';
import type { TlsDemand } from '../../node/delivery/client.ts';
import type { TlsaRecord } from '../../node/resolver.ts';
import { type Certificate, certificate, never, open, opened, outgoing, peer } from './delivery-wire-world.ts';

const name = 'mx.peer.test';
const made: Record<string, Certificate> = {};
let ca: string[] = [];

before(async () => {
  const root = await certificate({ commonName: 'Root', ca: true });
  const other = await certificate({ commonName: 'Other Root', ca: true });
  const middle = await certificate({ commonName: 'Middle', ca: true, issuer: root });
  const chained = (leaf: Certificate, ...above: Certificate[]) => ({
    key: leaf.key,
    cert: [leaf, ...above].map(({ cert }) => cert).join('\n'),
  });
  made.root = root;
  made.good = chained(await certificate({ names: [name], issuer: middle }), middle, root);
  made.rootless = await certificate({ names: [name], issuer: root });
  made.wildcard = chained(await certificate({ names: ['*.peer.test'], issuer: root }), root);
  made.selfSigned = await certificate({ names: [name] });
  made.stranger = chained(await certificate({ names: [name], issuer: other }), other);
  made.otherName = chained(await certificate({ names: ['mx.other.test'], issuer: root }), root);
  made.deepWildcard = chained(await certificate({ names: ['*.test'], issuer: root }), root);
  made.commonNameOnly = chained(await certificate({ commonName: name, issuer: root }), root);
  made.expired = chained(await certificate({ names: [name], issuer: root, from: -30, to: -1 }), root);
  made.future = chained(await certificate({ names: [name], issuer: root, from: 5, to: 30 }), root);
  ca = [root.cert];
});

const x509 = ({ cert }: Certificate) => new X509Certificate(cert);
const spki = (one: Certificate) => x509(one).publicKey.export({ type: 'spki', format: 'der' });
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest();
const sha512 = (bytes: Buffer) => createHash('sha512').update(bytes).digest();
const tlsa = (usage: number, selector: number, matching: number, data: Buffer): TlsaRecord => {
  return { usage, selector, matching, data };
};

const mtaSts: TlsDemand = { kind: 'verified', why: 'mta-sts', names: [name] };
const requireTls: TlsDemand = { kind: 'verified', why: 'requiretls', names: [name] };
const dane = (...records: TlsaRecord[]): TlsDemand => ({ kind: 'dane', names: [name], records });

const verified = ['good', 'wildcard'];
const every = [
  ...verified,
  'selfSigned',
  'stranger',
  'otherName',
  'deepWildcard',
  'commonNameOnly',
  'expired',
  'future',
];

for (const kind of every) {
  test(`certificate ${kind}: encrypted takes it, verified ${verified.includes(kind) ? 'too' : 'does not'}`, async (t) => {
    const there = await peer(t, { tls: made[kind]! });
    for (const tls of [{ kind: 'opportunistic' }, { kind: 'encrypted' }] as const) {
      const session = await opened(t, there, { tls });
      assert.match(session.tls!.version, /^TLSv1\.[23]$/);
      assert.deepEqual([session.tls!.policy, session.tls!.verified], [tls.kind, undefined]);
      assert.equal((await session.deliver(outgoing(), never)).kind, 'delivered');
    }
    const count = there.commands.length;
    const result = await open(there, { tls: mtaSts, ca });
    if (verified.includes(kind)) {
      assert.ok(result.kind === 'open', JSON.stringify(result));
      assert.equal(result.session.tls!.verified, 'mta-sts');
      result.session.close();
    } else {
      assert.ok(result.kind === 'broken');
      assert.deepEqual([result.stage, result.status], ['session', '4.7.5']);
      assert.match(result.summary, /^no verified session with mx\.peer\.test: /);
      // After STARTTLS nothing more is said, not even the greeting inside.
      assert.deepEqual(there.commands.slice(count), ['EHLO harbor.test', 'STARTTLS']);
    }
  });
}

test('the timeline keeps version, cipher, name and fingerprint, of a resumed session too', async (t) => {
  const there = await peer(t, { tls: made.good! });
  const fingerprint = x509(made.good!).fingerprint256.replaceAll(':', '').toLowerCase();
  for (let n = 0; n < 3; n++) {
    const session = await opened(t, there, { name: 'resumed.peer.test', tls: { kind: 'encrypted' } });
    const { version, cipher, peer: certificateOf } = session.tls!;
    assert.equal(certificateOf, `mx.peer.test SHA256:${fingerprint}`);
    assert.deepEqual([version, cipher], ['TLSv1.3', 'TLS_AES_256_GCM_SHA384']);
    assert.equal((await session.deliver(outgoing(), never)).kind, 'delivered');
  }
  assert.equal(there.resumed(), 2);
});

test('a session that nobody checked is never resumed where somebody must check', async (t) => {
  const there = await peer(t, { tls: made.selfSigned! });
  const session = await opened(t, there, { tls: { kind: 'encrypted' } });
  await session.deliver(outgoing(), never);
  for (const tls of [mtaSts, requireTls, dane(tlsa(3, 1, 1, sha256(spki(made.good!))))]) {
    assert.equal((await open(there, { tls, ca })).kind, 'broken');
  }
  assert.equal(there.resumed(), 0);
});

test('without STARTTLS nothing that is demanded opens, and what is wished opens in plain', async (t) => {
  const there = await peer(t);
  for (const tls of [{ kind: 'encrypted' }, mtaSts, requireTls, dane()] as TlsDemand[]) {
    const result = await open(there, { tls, ca });
    assert.ok(result.kind === 'broken');
    assert.equal(result.status, '4.7.4');
    assert.match(result.summary, /502 5\.5\.1 not here/);
  }
  assert.ok(!there.commands.some((line) => line.startsWith('MAIL')));
  assert.equal((await opened(t, there)).tls, undefined);
});

type DaneCase = [claim: string, kind: string, records: () => TlsaRecord[], opens: boolean];
const daneCases: DaneCase[] = [
  [
    '3 1 1 of a self-signed certificate',
    'selfSigned',
    () => [tlsa(3, 1, 1, sha256(spki(made.selfSigned!)))],
    true,
  ],
  ['3 0 1', 'selfSigned', () => [tlsa(3, 0, 1, sha256(x509(made.selfSigned!).raw))], true],
  ['3 1 0', 'selfSigned', () => [tlsa(3, 1, 0, spki(made.selfSigned!))], true],
  ['3 0 2', 'selfSigned', () => [tlsa(3, 0, 2, sha512(x509(made.selfSigned!).raw))], true],
  [
    '3 1 1: the name does not matter',
    'otherName',
    () => [tlsa(3, 1, 1, sha256(spki(made.otherName!)))],
    true,
  ],
  ['3 1 1: nor does the date', 'expired', () => [tlsa(3, 1, 1, sha256(spki(made.expired!)))], true],
  ['3 1 1 of another key', 'good', () => [tlsa(3, 1, 1, sha256(spki(made.selfSigned!)))], false],
  [
    'one of two that matches',
    'selfSigned',
    () => [tlsa(3, 1, 1, Buffer.alloc(32)), tlsa(3, 1, 1, sha256(spki(made.selfSigned!)))],
    true,
  ],
  ['2 0 1 of the root', 'good', () => [tlsa(2, 0, 1, sha256(x509(made.root!).raw))], true],
  ['2 1 1 of the root', 'good', () => [tlsa(2, 1, 1, sha256(spki(made.root!)))], true],
  ['2 0 0: the root itself', 'good', () => [tlsa(2, 0, 0, x509(made.root!).raw)], true],
  ['2 0 0: the root that the peer left out', 'rootless', () => [tlsa(2, 0, 0, x509(made.root!).raw)], true],
  [
    '2 0 1 of a root that the peer left out',
    'rootless',
    () => [tlsa(2, 0, 1, sha256(x509(made.root!).raw))],
    false,
  ],
  ['2 0 1, but for another name', 'otherName', () => [tlsa(2, 0, 1, sha256(x509(made.root!).raw))], false],
  ['2 0 1, but out of date', 'expired', () => [tlsa(2, 0, 1, sha256(x509(made.root!).raw))], false],
  ['2 0 1, but not yet in force', 'future', () => [tlsa(2, 0, 1, sha256(x509(made.root!).raw))], false],
  [
    '2 0 1 of a root that signed nothing here',
    'stranger',
    () => [tlsa(2, 0, 1, sha256(x509(made.root!).raw))],
    false,
  ],
  [
    '0 0 1 and 1 1 1, which are not for mail',
    'good',
    () => [tlsa(0, 0, 1, sha256(x509(made.root!).raw)), tlsa(1, 1, 1, sha256(spki(made.good!)))],
    false,
  ],
  [
    'a digest that is too short',
    'good',
    () => [tlsa(3, 1, 1, sha256(spki(made.good!)).subarray(0, 20))],
    false,
  ],
  ['no record at all', 'good', () => [], false],
];

for (const [claim, kind, records, opens] of daneCases) {
  test(`DANE ${claim}: ${opens ? 'opens' : 'does not open'}`, async (t) => {
    const there = await peer(t, { tls: made[kind]! });
    const result = await open(there, { tls: dane(...records()) });
    if (opens) {
      assert.ok(result.kind === 'open', JSON.stringify(result));
      assert.deepEqual([result.session.tls!.policy, result.session.tls!.verified], ['dane', 'dane']);
      assert.equal((await result.session.deliver(outgoing(), never)).kind, 'delivered');
      result.session.close();
    } else {
      assert.ok(result.kind === 'broken');
      assert.equal(result.status, '4.7.5');
      assert.match(result.summary, /no TLSA record matches/);
      assert.deepEqual(there.commands, ['EHLO harbor.test', 'STARTTLS']);
    }
  });
}

test('REQUIRETLS goes to a verified host that offers it, and to no other', async (t) => {
  const keeps = await peer(t, { tls: made.good!, offers: ['REQUIRETLS'] });
  const doesNot = await peer(t, { tls: made.good! });
  const asked = outgoing({ requireTls: true });
  const session = await opened(t, keeps, { tls: requireTls, ca });
  assert.equal(session.tls!.verified, 'requiretls');
  assert.equal((await session.deliver(asked, never)).kind, 'delivered');
  assert.equal((await session.deliver(outgoing(), never)).kind, 'delivered');
  const mails = keeps.commands.filter((line) => line.startsWith('MAIL'));
  assert.deepEqual(mails, ['MAIL FROM:<b-1@harbor.test> REQUIRETLS', 'MAIL FROM:<b-1@harbor.test>']);
  const unkept = await (await opened(t, doesNot, { tls: requireTls, ca })).deliver(asked, never);
  assert.equal(unkept.kind === 'unfit' && unkept.status, '5.7.30');
  const unchecked = await (await opened(t, keeps, { tls: { kind: 'encrypted' } })).deliver(asked, never);
  assert.equal(unchecked.kind === 'unfit' && unchecked.status, '5.7.30');
});
