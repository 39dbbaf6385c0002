/** Peers as an operator meets them: what is shown, what is refused, and what an act does. */
import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import { CorruptState } from '../../appview/database.ts';
import type { Config } from '../../node/config.ts';
import { verifyDeclaration } from '../../node/cooperative/declaration.ts';
import { declarationsToPublish, declarer } from '../../node/cooperative/declarer.ts';
import type { Saying } from '../../node/cooperative/peer-book.ts';
import { type PeerRefusalCode, PeerRefused } from '../../node/cooperative/peer-refusal.ts';
import { now, OtherCooperative, openOperator, ourDid } from './peer-fixtures.ts';

const path = '/xrpc/email.atmos.cooperative.getDeclaration';
const reef = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
const guarantee: Saying = { stance: 'guarantee', evidence: [], by: 'mira' };
const others: OtherCooperative[] = [];
let dune: OtherCooperative;

beforeEach(async () => {
  dune = await OtherCooperative.start();
  others.push(dune);
});
after(() => {
  for (const other of others) other.stop();
});

function refused(code: PeerRefusalCode, text: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof PeerRefused, String(error));
    assert.deepEqual([error.code, text.test(error.message)], [code, true], error.message);
    return true;
  };
}

function vote(domain: string, more: object = {}) {
  const uri = `at://${reef}/email.atmos.attestation/${domain}`;
  return { src: dune.did, uri, cid: 'bafyrei', val: 'verified-mail-operator', ...more };
}

test('a preview shows what will be trusted, and how much it is', async () => {
  const far = { subject: 'did:web:far.test', stance: 'guarantee', createdAt: '2026-01-01T00:00:00.000Z' };
  Object.assign(dune, {
    record: { description: 'By\u202e the \u001b[31mbay', sendingAddresses: ['192.0.2.1', '2001:db8::1'] },
    peers: [
      { $type: 'email.atmos.peer', ...far },
      { $type: 'email.atmos.peer', ...far, subject: 'did:web:odd.test', stance: 'hesitate', reason: 'new' },
    ],
    labels: [
      ...Array.from({ length: 300 }, (_, i) => vote(`d${i}.test`)),
      vote('d0.test', { uri: `at://did:plc:z72i7hdynmk6r22z27h6tvur/email.atmos.attestation/d0.test` }),
      vote('gone.test', { neg: true }),
      vote('x.test', { uri: reef }),
      vote('y.test', { val: 'relay-member' }),
      vote('z.test', { src: 'did:web:else.test' }),
    ],
  });
  const { peers, book } = openOperator();
  const { offers, ...preview } = await peers.preview(dune.url);
  assert.deepEqual(preview, {
    ...{ did: dune.did, name: 'Dune', poolDomain: 'dune.test', labeler: dune.url, labelKey: dune.key.did() },
    ...{ source: 'node', description: 'By  the  [31mbay', sendingAddresses: ['192.0.2.1', '2001:db8::1'] },
    peers: [
      { did: 'did:web:far.test', stance: 'guarantee' },
      { did: 'did:web:odd.test', stance: 'hesitate', reason: 'new' },
    ],
    guarantees: ['did:web:far.test'],
  });
  assert.deepEqual(offers, { votes: 301, domains: 300, isAll: true });
  assert.deepEqual(book.all(), []);
});

test('labels are counted to a limit, and a labeler that says nothing hides nothing else', async () => {
  dune.labels = Array.from({ length: 3_000 }, (_, i) => vote(`d${i}.test`));
  const { peers } = openOperator();
  assert.deepEqual((await peers.preview(dune.did)).offers, { votes: 2_000, domains: 2_000, isAll: false });
  dune.answers.set('/xrpc/com.atproto.label.queryLabels', { status: 500, body: 'no' });
  const { offers, name } = await peers.preview(dune.did);
  assert.deepEqual([offers, name], [undefined, 'Dune']);
});

test('the name may be a handle, when both sides say so', async () => {
  dune.handle = 'dune.test';
  const dns = { 'TXT _atproto.dune.test': [`did=${dune.did}`] };
  const { peers } = openOperator({ dns });
  assert.equal((await peers.preview('Dune.test')).did, dune.did);
  dune.handle = 'other.test';
  await assert.rejects(
    openOperator({ dns }).peers.preview('dune.test'),
    refused('unavailable', /does not call itself dune\.test/),
  );
});

for (const [word, code, text] of [
  ['not a name', 'unknown-name', /no domain and no DID/],
  ['nobody.test', 'unavailable', /nobody\.test/],
  ['localhost:1', 'unavailable', /ECONNREFUSED|refused/i],
  [ourDid, 'own', /is this cooperative/],
  ['https://harbor.test/', 'own', /is this cooperative/],
  ['did:web:known.test', 'already-a-peer', /the configuration has it/],
  ['known.test', 'already-a-peer', /the configuration has it/],
] as const) {
  test(`"${word}" is refused: ${code}`, async () => {
    const { peers } = openOperator({ configured: [{ did: 'did:web:known.test', stance: 'endorse' }] });
    await assert.rejects(peers.preview(word), refused(code, text));
    await assert.rejects(peers.add({ ...guarantee, name: word }), refused(code, text));
  });
}

/** Each: what is wrong, how it is made wrong, what is said. */
const bad: [claim: string, wrong: () => unknown, code: PeerRefusalCode, text: RegExp][] = [
  [
    'another key',
    async () => answer(await dune.declaration({ key: await Secp256k1Keypair.create() })),
    'bad-declaration',
    /did not sign it/,
  ],
  [
    'another DID',
    async () => answer(await dune.declaration({ iss: 'did:web:else.test' })),
    'bad-declaration',
    /of another DID/,
  ],
  [
    'one that has expired',
    async () => answer(await dune.declaration({ issuedAt: now - 2 * 86_400_000 })),
    'bad-declaration',
    /expired/,
  ],
  [
    'one of tomorrow',
    async () => answer(await dune.declaration({ issuedAt: now + 86_400_000 })),
    'bad-declaration',
    /future/,
  ],
  [
    'a signed label',
    () => answer(encode({ ver: 1, src: dune.did, sig: new Uint8Array(64) })),
    'bad-declaration',
    /\$type/,
  ],
  ['a flood', () => answer(new Uint8Array(2 * 1024 * 1024)), 'unavailable', /larger than/],
  [
    'no declaration',
    () => dune.answers.set(path, { status: 404, body: '' }),
    'bad-declaration',
    /answered 404/,
  ],
  ['a failing node', () => dune.answers.set(path, { status: 502, body: '' }), 'unavailable', /answered 502/],
  ['a redirect', () => dune.answers.set(path, { status: 302, body: '' }), 'bad-declaration', /answered 302/],
  [
    'another labeler',
    () => declares({ labeler: 'https://else.test' }),
    'bad-declaration',
    /declares the labeler/,
  ],
  [
    'our pool domain',
    () => declares({ poolDomain: 'harbor.test' }),
    'bad-declaration',
    /our own pool domain/,
  ],
  ['no pool domain', () => declares({ poolDomain: 'Dune test' }), 'bad-declaration', /no pool domain/],
  [
    'a network of addresses',
    () => declares({ sendingAddresses: ['192.0.2.0/24'] }),
    'bad-declaration',
    /not one address/,
  ],
  [
    'an address in another form',
    () => declares({ sendingAddresses: ['2001:DB8::1'] }),
    'bad-declaration',
    /usual form/,
  ],
  ['itself as a peer', () => knows(dune.did), 'bad-declaration', /its own peer/],
  ['a peer twice', () => knows('did:web:a.test', 'did:web:a.test'), 'bad-declaration', /twice/],
  ['no label key', () => documents({ verificationMethod: [] }), 'no-labeler', /no|has no key #atproto_label/],
  ['no labeler', () => documents({ service: [] }), 'no-labeler', /service #atproto_labeler/],
];
for (const [claim, wrong, code, text] of bad) {
  test(`a cooperative with ${claim} is not added: ${code}`, async () => {
    await wrong();
    const { peers, book, told } = openOperator();
    await assert.rejects(peers.add({ ...guarantee, name: dune.did }), refused(code, text));
    assert.deepEqual([book.all(), told], [[], []]);
  });
}

function answer(body: Uint8Array): void {
  dune.answers.set(path, { body });
}
function declares(record: object): void {
  dune.record = record;
}
function knows(...dids: string[]): void {
  const createdAt = '2026-01-01T00:00:00.000Z';
  dune.peers = dids.map((subject) => ({
    $type: 'email.atmos.peer',
    subject,
    stance: 'endorse',
    createdAt,
  })) as typeof dune.peers;
}
async function documents(change: object): Promise<void> {
  const document = await (await fetch(`${dune.url}/.well-known/did.json`)).json();
  dune.answers.set('/.well-known/did.json', { body: JSON.stringify({ ...(document as object), ...change }) });
}

test('an added peer is stored as it declared itself, followed, and a root; the act is remembered', async () => {
  const { peers, told, acts, status } = openOperator();
  const wanted = { ...guarantee, reason: 'we know them', evidence: ['https://harbor.test/dune'] };
  const peer = await peers.add({ ...wanted, name: dune.did, labelKey: dune.key.did() });
  assert.deepEqual(peer, {
    ...{
      did: dune.did,
      stance: 'guarantee',
      reason: 'we know them',
      evidence: wanted.evidence,
      from: 'command',
    },
    declared: { name: 'Dune', poolDomain: 'dune.test', labeler: dune.url, labelKey: dune.key.did() },
    ...{ added: { at: now, by: 'mira' }, changed: { at: now, by: 'mira' } },
  });
  assert.deepEqual(told, [`roots ${dune.did}`, `follow ${dune.did} ${dune.key.did()}`]);
  assert.deepEqual(acts, [
    { act: 'peer_added', peer: dune.did, by: 'mira', stance: 'guarantee', reason: 'we know them' },
  ]);
  assert.deepEqual(peers.list(), [{ ...peer, status }]);
  for (const name of [dune.did, 'dune.test', dune.url]) assert.equal(peers.show(name).did, dune.did);
  await assert.rejects(peers.add({ ...guarantee, name: dune.did }), refused('already-a-peer', /already/));
});

test('a peer whose key is not the one that was shown is not added', async () => {
  const { peers, book } = openOperator();
  await assert.rejects(
    peers.add({ ...guarantee, name: dune.did, labelKey: ourDid }),
    refused('changed', /Look again/),
  );
  assert.deepEqual(book.all(), []);
});

test('of two that add the same peer at once, one is told that it is there', async () => {
  const { peers, book } = openOperator();
  const added = await Promise.allSettled([1, 2].map(() => peers.add({ ...guarantee, name: dune.did })));
  assert.deepEqual(added.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  assert.equal(book.all().length, 1);
});

test('a stance says what is read and what counts', async () => {
  const { peers, told } = openOperator();
  await peers.add({ ...guarantee, name: dune.did, reason: 'good', stance: 'endorse' });
  assert.deepEqual(told.splice(0), ['roots', `follow ${dune.did} ${dune.key.did()}`]);
  await peers.setStance('dune.test', { stance: 'guarantee', by: 'noor' });
  assert.deepEqual(told.splice(0), [`roots ${dune.did}`, `follow ${dune.did} ${dune.key.did()}`]);
  const censured = await peers.setStance(dune.did, { stance: 'censure', by: 'noor', reason: 'spam' });
  assert.deepEqual(told.splice(0), ['roots', `unfollow ${dune.did}`]);
  assert.deepEqual([censured.reason, censured.changed?.by, censured.added?.by], ['spam', 'noor', 'mira']);
  assert.equal(peers.show(dune.did).status, undefined);
});

test('a reason goes with its stance, and stays while the stance does', async () => {
  const { peers } = openOperator();
  await peers.add({ ...guarantee, name: dune.did, reason: 'good', evidence: ['https://a.test'] });
  const same = await peers.setStance(dune.did, { stance: 'guarantee', by: 'noor' });
  assert.deepEqual([same.reason, same.evidence], ['good', ['https://a.test']]);
  const other = await peers.setStance(dune.did, { stance: 'hesitate', by: 'noor' });
  assert.deepEqual([other.reason, other.evidence], [undefined, []]);
});

test('one that does not answer can be censured, and is trusted only after it was read', async () => {
  dune.answers.set(path, { status: 500, body: '' });
  const { peers, told } = openOperator();
  const { declared } = await peers.add({ ...guarantee, name: dune.did, stance: 'censure' });
  assert.deepEqual([declared, told.splice(0)], [undefined, ['roots', `unfollow ${dune.did}`]]);
  await assert.rejects(
    peers.setStance(dune.did, { stance: 'guarantee', by: 'mira' }),
    refused('unavailable', /answered 500/),
  );
  assert.deepEqual([peers.show(dune.did).stance, told], ['censure', []]);
  dune.answers.clear();
  const now_ = await peers.setStance(dune.did, { stance: 'guarantee', by: 'mira' });
  assert.equal(now_.declared?.labelKey, dune.key.did());
});

test('a censure hits whom the word leads to, never a DID that nobody has', async () => {
  const { peers, book } = openOperator();
  const censure = { ...guarantee, stance: 'censure' as const };
  await assert.rejects(
    peers.add({ ...censure, name: 'nobody.test' }),
    refused('unavailable', /nobody\.test/),
  );
  await assert.rejects(peers.add({ ...censure, name: 'localhost:1' }), refused('unavailable', /localhost/));
  assert.deepEqual(book.all(), []);
  dune.answers.set(path, { status: 500, body: '' });
  assert.equal((await peers.add({ ...censure, name: dune.url })).did, dune.did);
  assert.equal((await peers.add({ ...censure, name: 'did:web:gone.test' })).did, 'did:web:gone.test');
});

test('a removed peer is no root and is followed no more; a second time there is nothing to remove', async () => {
  const { peers, told, acts } = openOperator();
  await peers.add({ ...guarantee, name: dune.did });
  told.splice(0);
  assert.equal((await peers.remove('dune.test', { by: 'noor', reason: 'left' })).did, dune.did);
  assert.deepEqual(told, ['roots', `unfollow ${dune.did}`]);
  assert.deepEqual(acts.at(-1), { act: 'peer_removed', peer: dune.did, by: 'noor', reason: 'left' });
  await assert.rejects(peers.remove(dune.did, { by: 'noor' }), refused('not-a-peer', /no peer of ours/));
});

test('a new key is trusted, and a quarantine ended, only where there is one', async () => {
  const { peers, told, acts, status } = openOperator();
  await peers.add({ ...guarantee, name: dune.did });
  told.splice(0);
  await assert.rejects(peers.trustKey(dune.did, 'noor'), refused('nothing-to-do', /no new label key/));
  assert.throws(() => peers.release(dune.did, 'noor'), refused('nothing-to-do', /not quarantined/));
  Object.assign(status, { state: 'quarantined', keyWaits: true });
  await peers.trustKey('dune.test', 'noor');
  peers.release('dune.test', 'noor');
  assert.deepEqual(told, [`trust ${dune.did}`, `release ${dune.did}`]);
  assert.deepEqual(acts.slice(-2), [
    { act: 'peer_key_trusted', peer: dune.did, by: 'noor' },
    { act: 'peer_released', peer: dune.did, by: 'noor' },
  ]);
});

test('peers of the configuration are shown, and no command changes them', async () => {
  const configured = [{ did: dune.did, stance: 'guarantee' as const, reason: 'by hand' }];
  const { peers, status } = openOperator({ configured });
  assert.deepEqual(peers.list(), [{ ...configured[0], evidence: [], from: 'configuration', status }]);
  for (const act of [
    peers.remove(dune.did, { by: 'mira' }),
    peers.setStance(dune.did, { stance: 'censure', by: 'mira' }),
  ])
    await assert.rejects(act, refused('configured', /Change it there/));
});

test('the configuration wins over a row of the same DID', () => {
  const { book, db } = openOperator({ configured: [{ did: dune.did, stance: 'censure' }] });
  db.prepare(
    `INSERT INTO peer (did, stance, evidence, added_at, added_by, changed_at, changed_by)
     VALUES (?, 'guarantee', '[]', 1, 'mira', 1, 'mira')`,
  ).run(dune.did);
  assert.deepEqual(
    book.all().map(({ did, stance }) => [did, stance]),
    [[dune.did, 'censure']],
  );
});

test('there is an end to how many peers there can be', async () => {
  const configured = Array.from({ length: 1_024 }, (_, i) => ({
    did: `did:web:p${i}.test`,
    stance: 'endorse' as const,
  }));
  const { peers } = openOperator({ configured });
  await assert.rejects(peers.add({ ...guarantee, name: dune.did }), refused('too-many', /1024|1,024/));
});

test('who one DID is, is read without reading all the others', () => {
  const { book, db } = openOperator({ configured: [{ did: dune.did, stance: 'censure' }] });
  const add = db.prepare(
    `INSERT INTO peer (did, stance, evidence, added_at, added_by, changed_at, changed_by)
     VALUES (?, 'guarantee', ?, 1, 'mira', 1, 'mira')`,
  );
  add.run('did:web:reef.test', '[]');
  // A row that nobody can read shows whether it was.
  add.run('did:web:torn.test', '[');
  assert.equal(book.get('did:web:reef.test')?.stance, 'guarantee');
  assert.equal(book.get(dune.did)?.stance, 'censure');
  assert.equal(book.get('did:web:nobody.test'), undefined);
  assert.throws(() => book.get('did:web:torn.test'), CorruptState);
});

const config = {
  ...{ did: ourDid, name: 'Harbor', domain: 'harbor.test', labelerUrl: 'https://harbor.test' },
  ...{
    publicUrl: 'https://harbor.test',
    roles: ['appview'],
    delivery: { sources: [{ address: '192.0.2.7' }] },
  },
  declaration: { description: 'Mail of the bay', contact: 'mailto:a@harbor.test' },
} as unknown as Config;

test('our declaration has what the configuration says, and changes when a peer does', async () => {
  const key = await Secp256k1Keypair.create();
  const { peers, book } = openOperator();
  const declare = declarer({ config, book, key: () => key, now: () => now });
  const read = async () => {
    const verdict = verifyDeclaration(await declare(), { did: ourDid, labelKey: key.did() }, now + 1);
    assert.ok(verdict.kind === 'valid');
    return verdict.declaration;
  };
  const before = await declare();
  const { cooperative, peers: none } = await read();
  assert.deepEqual(none, []);
  assert.deepEqual(
    [cooperative.description, cooperative.contact, cooperative.sendingAddresses],
    ['Mail of the bay', 'mailto:a@harbor.test', ['192.0.2.7']],
  );
  assert.equal(await declare(), before, 'signed once');
  await peers.add({ ...guarantee, name: dune.did, reason: 'good' });
  const [stance] = (await read()).peers;
  assert.deepEqual([stance!.subject, stance!.stance, stance!.reason], [dune.did, 'guarantee', 'good']);
  const records = declarationsToPublish({ config, book }, now);
  assert.deepEqual(
    records.map(({ collection, rkey }) => `${collection}/${rkey}`),
    ['email.atmos.cooperative/self', `email.atmos.peer/${dune.did.replaceAll('%', '~')}`],
  );
  await peers.remove(dune.did, { by: 'mira' });
  assert.deepEqual((await read()).peers, []);
});

test('addresses are declared once each, in the form that others compare, at most 64', async () => {
  const key = await Secp256k1Keypair.create();
  const { book } = openOperator();
  const sendingAddresses = [
    '2001:DB8:0:0::1',
    '2001:db8::1',
    ...Array.from({ length: 70 }, (_, i) => `192.0.2.${i}`),
  ];
  const many = { ...config, declaration: { sendingAddresses } } as Config;
  const [{ record }] = declarationsToPublish({ config: many, book }, now) as unknown as [
    { record: { sendingAddresses: string[] } },
  ];
  assert.deepEqual(
    [record.sendingAddresses.length, record.sendingAddresses.slice(0, 2)],
    [64, ['2001:db8::1', '192.0.2.0']],
  );
  await declarer({ config: many, book, key: () => key, now: () => now })();
});

test('a declaration of as many peers as there can be is not too large to be read', async () => {
  const key = await Secp256k1Keypair.create();
  const configured = Array.from({ length: 1_024 }, (_, i) => ({
    ...{ did: `did:web:p${i}.test`, stance: 'endorse' as const, reason: 'x'.repeat(300) },
  }));
  const { book } = openOperator({ configured });
  const bytes = await declarer({ config, book, key: () => key, now: () => now })();
  assert.equal(verifyDeclaration(bytes, { did: ourDid, labelKey: key.did() }, now + 1).kind, 'valid');
});
