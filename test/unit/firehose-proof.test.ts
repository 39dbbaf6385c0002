/** What proves a record, and what does not. The repositories are made by @atproto/repo, as a PDS makes them. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { P256Keypair, Secp256k1Keypair } from '@atproto/crypto';
import { decode, encode } from '@atproto/lex-cbor';
import { type Cid, cidForCbor, type LexMap } from '@atproto/lex-data';
import { type BlockMap, blocksToCarFile, readCarWithRoot, signCommit, verifyProofs } from '@atproto/repo';
import { prove, type Refusal } from '../../appview/firehose/proof.ts';
import { Author, attestation, type CommitBody, collection } from './firehose-fixtures.ts';

const path = `${collection}/reef.test`;

describe('a proof', () => {
  let author: Author;
  let body: CommitBody;
  const claim = (fields = {}) => ({
    ...{ did: author.did, signingKey: author.key.did(), paths: [path], now: Date.now() },
    ...fields,
  });

  before(async () => {
    author = await Author.create();
    await author.fill(300);
    body = await author.attest('reef.test');
  });

  async function refusal(car: Uint8Array, fields = {}): Promise<Refusal | 'proved'> {
    const proof = await prove(car, claim(fields));
    return proof.kind === 'refused' ? proof.reason : 'proved';
  }

  /** The same CAR with other blocks. */
  async function rebuilt(change: (blocks: BlockMap, root: Cid) => Cid | Promise<Cid>): Promise<Uint8Array> {
    const { root, blocks } = await readCarWithRoot(body.blocks);
    return blocksToCarFile(await change(blocks, root), blocks);
  }

  test('gives the record at its path, the rev and the commit', async () => {
    assert.deepEqual(await prove(body.blocks, claim()), {
      ...{ kind: 'proved', rev: body.rev, commit: body.commit.toString() },
      records: [{ path, cid: body.ops[0]!.cid!.toString(), value: attestation('reef.test') }],
    });
  });

  test('is the same from com.atproto.sync.getRecord', async () => {
    const proof = await prove(await author.getRecord('reef.test'), claim());
    assert.equal(proof.kind === 'proved' && proof.records[0]?.cid, body.ops[0]!.cid!.toString());
  });

  test('gives absence where the tree shows it, and there alone', async () => {
    const absent = await author.getRecord('absent.test');
    const absentPath = `${collection}/absent.test`;
    const proof = await prove(absent, claim({ paths: [absentPath] }));
    assert.deepEqual(proof.kind === 'proved' && proof.records, [{ path: absentPath }]);
    // The reference implementation says the same.
    const claims = [{ collection: collection as never, rkey: 'absent.test' as never, cid: null }];
    const reference = await verifyProofs(absent, claims, author.did, author.key.did());
    assert.equal(reference.verified.length, 1);
  });

  test('a tree whose nodes are left out shows neither presence nor absence', async () => {
    const { blocks } = await readCarWithRoot(body.blocks);
    for (const left of blocks.cids()) {
      if (left.equals(body.commit)) continue;
      const car = await rebuilt((all, root) => {
        all.delete(left);
        return root;
      });
      const proof = await prove(car, claim());
      if (proof.kind === 'refused') assert.equal(proof.reason, 'incomplete');
      else assert.equal(proof.records[0]?.cid, body.ops[0]!.cid!.toString(), 'a node that is not on the way');
    }
  });

  test('needs the key of the account', async () => {
    const other = await Secp256k1Keypair.create();
    assert.equal(await refusal(body.blocks, { signingKey: other.did() }), 'bad_signature');
    assert.equal(await refusal(body.blocks, { signingKey: 'did:key:zgarbage' }), 'bad_signature');
  });

  test('may be signed with P-256', async () => {
    const key = await P256Keypair.create();
    const signed = await author.commit([{ action: 'create', rkey: 'p256.test', record: {} }], key);
    assert.equal(await refusal(signed.blocks, { signingKey: key.did(), paths: [] }), 'proved');
  });

  test('is of the account that is asked for', async () => {
    assert.equal(await refusal(body.blocks, { did: 'did:plc:other' }), 'wrong_account');
  });

  test('a commit that was changed after signing is refused', async () => {
    const car = await rebuilt(async (blocks, root) => {
      const commit = decode(blocks.get(root)!) as LexMap;
      return blocks.add({ ...commit, rev: '3zzzzzzzzzzzz' });
    });
    assert.equal(await refusal(car, { now: Number.MAX_SAFE_INTEGER }), 'bad_signature');
    const extended = await rebuilt(async (blocks, root) => {
      const commit = decode(blocks.get(root)!) as LexMap;
      return blocks.add({ ...commit, more: true });
    });
    assert.equal(await refusal(extended), 'bad_signature');
  });

  test('fields of the future are under the signature too', async () => {
    const car = await rebuilt(async (blocks, root) => {
      const { sig: _, ...commit } = decode(blocks.get(root)!) as LexMap;
      return blocks.add(await signCommit({ ...commit, more: 'later' } as never, author.key));
    });
    assert.equal(await refusal(car), 'proved');
  });

  test('a block that is not what its CID says refuses the whole', async () => {
    const { root, blocks } = await readCarWithRoot(body.blocks);
    const cid = body.ops[0]!.cid!;
    blocks.set(cid, encode(attestation('reef.test', { relayMember: true })));
    assert.equal(await refusal(await blocksToCarFile(root, blocks)), 'bad_car');
  });

  test('a block outside of the tree is no record of the account', async () => {
    const car = await rebuilt((blocks, root) => {
      const forged = encode(attestation('forged.test'));
      return cidForCbor(forged).then((cid) => {
        blocks.set(cid, forged);
        return root;
      });
    });
    const paths = [`${collection}/forged.test`];
    const proof = await prove(car, claim({ paths }));
    if (proof.kind === 'proved') assert.deepEqual(proof.records, [{ path: paths[0] }]);
    else assert.equal(proof.reason, 'incomplete');
  });

  test('a record that cannot be decoded is there, without a value', async () => {
    const broken = await Author.create();
    const made = await broken.commit([{ action: 'create', rkey: 'list', record: [1, 2] as never }]);
    const proof = await prove(made.blocks, {
      ...claim({ did: broken.did, signingKey: broken.key.did(), paths: [`${collection}/list`] }),
    });
    assert.ok(proof.kind === 'proved');
    assert.ok(proof.records[0]?.cid);
    assert.equal(proof.records[0]?.value, undefined);
  });

  test('a rev more than five minutes ahead of the clock is refused', async () => {
    assert.equal(await refusal(body.blocks, { now: Date.now() - 4 * 60_000 }), 'proved');
    assert.equal(await refusal(body.blocks, { now: Date.now() - 6 * 60_000 }), 'future_rev');
  });

  const commits: [string, LexMap][] = [
    ['version 2', { version: 2 }],
    ['a rev that is no TID', { rev: 'soon' }],
    ['data that is no CID', { data: 'bafy' }],
    ['no did', { did: 7 }],
  ];
  for (const [name, fields] of commits) {
    test(`a signed commit with ${name} is refused`, async () => {
      const car = await rebuilt(async (blocks, root) => {
        const { sig: _, ...commit } = decode(blocks.get(root)!) as LexMap;
        return blocks.add(await signCommit({ ...commit, ...fields } as never, author.key));
      });
      assert.equal(await refusal(car), 'bad_commit');
    });
  }

  test('what is no CAR, has two roots, or lacks its root is refused', async () => {
    assert.equal(await refusal(Buffer.alloc(0)), 'bad_car');
    assert.equal(await refusal(Buffer.from('text')), 'bad_car');
    const twoRoots = Buffer.from(encode({ version: 1, roots: [body.commit, body.commit] }));
    assert.equal(await refusal(Buffer.concat([Buffer.from([twoRoots.length]), twoRoots])), 'bad_car');
    const noBlocks = Buffer.from(encode({ version: 1, roots: [body.commit] }));
    assert.equal(await refusal(Buffer.concat([Buffer.from([noBlocks.length]), noBlocks])), 'bad_commit');
  });
});
