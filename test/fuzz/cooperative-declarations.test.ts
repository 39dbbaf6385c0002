/**
 * What another cooperative declares, from anyone: refused, or exactly what its label key signed; and where its
 * own key signs nonsense, refused in words or shown without a character that a terminal would obey.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { decode, encode } from '@atproto/lex-cbor';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import { signDeclaration, verifyDeclaration } from '../../node/cooperative/declaration.ts';
import { readDeclared } from '../../node/cooperative/declared.ts';
import { RepoDeclarations } from '../../node/cooperative/declared-in-repo.ts';
import type { LabelerIdentity } from '../../node/cooperative/peer-name.ts';
import { PeerRefused } from '../../node/cooperative/peer-refusal.ts';
import { offerOf, previewOf } from '../../node/cooperative/preview.ts';
import { Author } from '../unit/firehose-fixtures.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('cooperative-declarations');
const key = await Secp256k1Keypair.create();
const now = Date.parse('2026-11-20T09:00:00Z');
const identity: LabelerIdentity = {
  ...{ did: 'did:web:dune.test', labelKey: key.did(), labeler: 'https://dune.test' },
};
const createdAt = '2026-01-01T00:00:00.000Z';
const cooperative = {
  ...{ $type: 'email.atmos.cooperative', name: 'Dune', poolDomain: 'dune.test', labeler: identity.labeler },
  ...{ description: 'By the bay', sendingAddresses: ['192.0.2.1', '2001:db8::1'], createdAt },
};
const peer = { $type: 'email.atmos.peer', subject: 'did:web:a.test', stance: 'guarantee', createdAt };
const statement = {
  iss: identity.did,
  issuedAt: now - 1_000,
  lifetimeMs: 60_000,
  cooperative,
  peers: [peer],
};
const original = await signDeclaration(statement as Parameters<typeof signDeclaration>[0], key);

/** A fetch that answers everything with these bytes. */
function answering(body: () => Uint8Array): GuardedFetch {
  return async () => ({ status: 200, headers: {}, body: body() });
}

test('mutated bytes are refused, or are the bytes that were signed', () => {
  const expected = { did: identity.did, labelKey: identity.labelKey };
  for (let i = fuzz.rounds(10_000); i > 0; i--) {
    const bytes = fuzz.mutate(original);
    const verdict = verifyDeclaration(bytes, expected, now);
    assert.equal(verdict.kind === 'valid', Buffer.compare(bytes, original) === 0);
  }
  assert.equal(verifyDeclaration(original, expected, now).kind, 'valid');
});

const nonsense = [
  ...[null, 0, -1, true, '', ' ', 'x', 'é'.repeat(400), '\u001b[2J', 'a\u202eb', '::1', '192.0.2.256'],
  ...[
    'https://dune.test',
    'https://dune.test/',
    'http://[',
    'did:web:dune.test',
    'did:web:a.test',
    createdAt,
  ],
  ...[[], {}, [null], ['192.0.2.1'], [peer], [peer, peer], new Uint8Array(64), Array(100).fill('192.0.2.1')],
];

test('whatever a peer signs with its own key is refused in words, or shown without control characters', async () => {
  const { sig: _, ...fields } = decode(original) as { sig: Uint8Array } & Record<string, unknown>;
  let shown = 0;
  for (let i = fuzz.rounds(200, 50); i > 0; i--) {
    const changed = structuredClone(fields) as Record<string, Record<string, unknown>>;
    const inside = fuzz.pick([changed.cooperative!, changed.cooperative!, changed] as Record<
      string,
      unknown
    >[]);
    for (let n = 1 + fuzz.below(2); n > 0; n--) inside[fuzz.pick(Object.keys(inside))] = fuzz.pick(nonsense);
    const unsigned = changed as unknown as Parameters<typeof encode>[0] & object;
    const bytes = encode({ ...unsigned, sig: await key.sign(encode(unsigned)) } as typeof unsigned);
    const sources = { fetch: answering(() => bytes), now: () => now };
    const declared = await readDeclared(identity, sources).catch(refusal);
    if (!declared) continue;
    shown += 1;
    const texts = JSON.stringify(previewOf(identity, declared, undefined));
    // JSON writes the first kind as \u001b, the others as they are.
    assert.doesNotMatch(texts, /\\u00|[\p{Cc}\p{Cf}]/u);
  }
  assert.ok(shown > 0, 'otherwise only refusals were seen');
});

test('pages of a labeler and of a PDS are read to an end, whatever they hold', async () => {
  const page = JSON.stringify({
    records: [{ uri: `at://${identity.did}/email.atmos.peer/did:web:a.test` }, { uri: 7 }, null],
    labels: [{ src: identity.did, uri: 'at://did:plc:x/email.atmos.attestation/a.test', val: 'x' }, null, 3],
    cursor: '1',
  });
  const author = await Author.create();
  await author.commit([
    { action: 'create', in: 'email.atmos.cooperative', rkey: 'self', record: cooperative },
  ]);
  const car = await author.getRecord('self', 'email.atmos.cooperative');
  const repo = { ...identity, did: author.did, pds: 'https://pds.test', signingKey: author.key.did() };
  let listed = 0;
  for (let i = fuzz.rounds(500, 40); i > 0; i--) {
    let pages = 0;
    const mutated: GuardedFetch = async (url) => {
      const isRecord = url.includes('rkey=self');
      pages += isRecord || url.includes('sync.getRecord') ? 0 : 1;
      listed += url.includes('listRecords') ? 1 : 0;
      return { status: 200, headers: {}, body: isRecord ? car : fuzz.mutate(Buffer.from(page)) };
    };
    await offerOf(identity, mutated);
    await new RepoDeclarations(repo, { fetch: mutated, now: Date.now }).read().catch(refusal);
    assert.ok(pages < 20, `${pages} pages`);
  }
  assert.ok(listed > 0, 'otherwise the records were never asked for');
});

/** The one kind of failure that is expected. */
function refusal(error: unknown): undefined {
  assert.ok(error instanceof PeerRefused, String(error));
}
