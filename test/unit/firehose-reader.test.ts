import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../appview/database.ts';
import { type AttestationChange, Attestations } from '../../appview/firehose/attestations.ts';
import { FrameReader, SourceError } from '../../appview/firehose/reader.ts';
import { Rechecker } from '../../appview/firehose/rechecker.ts';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { appviewMigrations } from '../../appview/migrations.ts';
import { Author, attestation, commitFrame, Directory, errorFrame, frame } from './firehose-fixtures.ts';
import { type Counted, counters, quiet } from './labels-fixtures.ts';

const source = 'ws://127.0.0.1';

describe('a reader of frames', () => {
  let author: Author;
  let directory: Directory;
  let view: World;

  beforeEach(async () => {
    author = await Author.create();
    directory = await Directory.start(author);
    view = new World(directory.url);
  });

  afterEach(async () => {
    await view.stop();
    await directory.stop();
  });

  test('indexes what the account signed, in a tree of several floors', async () => {
    await author.fill(300);
    await view.read(commitFrame(7, await author.attest('reef.test')));
    assert.deepEqual(view.domains(), ['reef.test']);
    assert.equal(view.attestations.cursorOf(source), 7);
    await view.read(commitFrame(8, await author.commit([{ action: 'delete', rkey: 'reef.test' }])));
    assert.deepEqual(view.domains(), []);
    assert.equal(view.attestations.cursorOf(source), 8);
    assert.deepEqual(
      view.changes.map(({ rkey, cid }) => [rkey, cid !== undefined]),
      [
        ['reef.test', true],
        ['reef.test', false],
      ],
    );
  });

  test('refuses a commit signed with another key', async () => {
    const stranger = await Secp256k1Keypair.create();
    const record = attestation('reef.test');
    const body = await author.commit([{ action: 'create', rkey: 'reef.test', record }], stranger);
    await view.read(commitFrame(7, body));
    assert.deepEqual(view.domains(), []);
    assert.equal(view.counted.of('commits_refused{bad_signature}'), 1);
    assert.equal(view.reader.cursor, 7, 'it is done with');
  });

  test('takes a commit signed with a new key after one look at the directory', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    author.key = await Secp256k1Keypair.create();
    view.clock += 10_000;
    const asked = directory.asked;
    await view.read(commitFrame(8, await author.attest('news.reef.test')));
    assert.deepEqual(view.domains(), ['news.reef.test', 'reef.test']);
    assert.equal(directory.asked, asked + 1);
  });

  test('read again after a change of key, an old commit is refused and its record proved at the PDS', async () => {
    const old = commitFrame(7, await author.attest('reef.test'));
    author.key = await Secp256k1Keypair.create();
    await author.attest('news.reef.test');
    await view.read(old);
    assert.equal(view.counted.of('commits_refused{bad_signature}'), 1);
    assert.deepEqual(view.domains(), []);
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), ['reef.test']);
  });

  test('while the directory is down, a signature that looks bad is not judged', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    author.key = await Secp256k1Keypair.create();
    view.clock += 10_000;
    directory.failWith = 503;
    await view.read(commitFrame(8, await author.attest('news.reef.test')));
    assert.equal(view.counted.of('commits_refused{bad_signature}'), 0);
    directory.failWith = undefined;
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), ['news.reef.test', 'reef.test']);
  });

  test('takes a new key at once after an #identity event', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    author.key = await Secp256k1Keypair.create();
    await view.read(frame('#identity', { seq: 8, did: author.did, time: new Date().toISOString() }));
    assert.deepEqual(view.identitiesSeen, [author.did]);
    await view.read(commitFrame(9, await author.attest('news.reef.test')));
    assert.equal(view.counted.of('commits_refused{bad_signature}'), 0);
    assert.equal(view.domains().length, 2);
  });

  test("refuses another account's commit under this account's name", async () => {
    const other = await Author.create();
    const body = await other.attest('reef.test');
    await view.read(commitFrame(7, { ...body, repo: author.did }));
    assert.equal(view.counted.of('commits_refused{wrong_account}'), 1);
    assert.deepEqual(view.domains(), []);
  });

  test('refuses a frame whose rev or commit is not the signed one', async () => {
    const body = await author.attest('reef.test');
    await view.read(commitFrame(7, { ...body, rev: '3zzzzzzzzzzzz' }));
    await view.read(commitFrame(8, { ...body, commit: body.ops[0]!.cid! }));
    assert.equal(view.counted.of('commits_refused{wrong_commit}'), 2);
    assert.deepEqual(view.domains(), []);
  });

  test('believes the signed tree where an operation contradicts it', async () => {
    const body = await author.attest('reef.test');
    const path = body.ops[0]!.path;
    await view.read(commitFrame(7, { ...body, ops: [{ action: 'delete', path, cid: null }] }));
    assert.deepEqual(view.domains(), ['reef.test']);
    const absent = `${path}.absent`;
    await view.read(commitFrame(8, { ...body, ops: [{ action: 'create', path: absent, cid: body.commit }] }));
    assert.deepEqual(view.domains(), ['reef.test']);
  });

  test('one commit that touches a record twice leaves it as the signed tree has it', async () => {
    const created = await author.attest('reef.test');
    await view.read(commitFrame(7, created));
    const removed = await author.commit([{ action: 'delete', rkey: 'reef.test' }]);
    const update = { ...created.ops[0]!, action: 'update' };
    await view.read(commitFrame(8, { ...removed, ops: [update, ...removed.ops] }));
    assert.deepEqual(view.domains(), []);
    const again = await author.attest('reef.test');
    const remove = { action: 'delete', path: update.path, cid: null };
    await view.read(commitFrame(9, { ...again, ops: [remove, ...again.ops] }));
    assert.deepEqual(view.domains(), ['reef.test']);
  });

  test('a deletion that the signed tree does not show does not unlist', async () => {
    const body = await author.attest('reef.test');
    await view.read(commitFrame(7, body));
    const ops = [{ action: 'delete', path: body.ops[0]!.path, cid: null }];
    await view.read(commitFrame(8, { ...body, ops }));
    assert.deepEqual(view.domains(), ['reef.test']);
  });

  test('ignores an older commit that is replayed', async () => {
    const create = await author.attest('reef.test');
    const remove = await author.commit([{ action: 'delete', rkey: 'reef.test' }]);
    for (const [index, body] of [create, remove, create].entries()) await view.read(commitFrame(index, body));
    await view.read(commitFrame(3, { ...create, blocks: Buffer.from('never looked at') }));
    assert.deepEqual(view.domains(), []);
    assert.equal(view.counted.of('commits_ignored{old_rev}'), 2);
    assert.equal(view.reader.cursor, 3);
  });

  test('refuses a rev ahead of the clock', async () => {
    view.clock -= 3_600_000;
    await view.read(commitFrame(7, await author.attest('reef.test')));
    assert.equal(view.counted.of('commits_refused{future_rev}'), 1);
  });

  test('refuses an account that its directory does not know', async () => {
    const nobody = await Author.create();
    await view.read(commitFrame(7, await nobody.attest('reef.test')));
    assert.equal(view.counted.of('commits_refused{unknown_identity}'), 1);
  });

  test('a commit that cannot be proved now is on the list with its cursor, and proved at the PDS', async () => {
    directory.failWith = 503;
    await view.read(commitFrame(7, await author.attest('reef.test')));
    assert.equal(view.counted.of('commits_postponed'), 1);
    assert.equal(view.attestations.cursorOf(source), 7);
    directory.failWith = undefined;
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), ['reef.test']);
    assert.deepEqual(view.attestations.rechecks.due(9), []);
  });

  test('nobody waits for a did:web host, whose commit is proved off the road', async () => {
    const { port } = new URL(directory.url);
    const web = await Author.create(`did:web:localhost%3A${port}`);
    directory.add(web);
    await view.read(commitFrame(7, await web.attest('reef.test')));
    assert.equal(view.counted.of('commits_postponed'), 1);
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), ['reef.test']);
    await view.read(commitFrame(8, await web.attest('news.reef.test')));
    assert.deepEqual(
      view.domains(),
      ['news.reef.test', 'reef.test'],
      'once in the cache it is like any other',
    );
  });

  test('a signed commit whose blocks do not reach to the record is proved at the PDS', async () => {
    await author.fill(300);
    const body = await author.attest('reef.test');
    const bare = await author.commit([
      { action: 'create', rkey: 'post', in: 'app.bsky.feed.post', record: {} },
    ]);
    const ops = [{ ...body.ops[0]!, action: 'update' }];
    await view.read(commitFrame(7, { ...bare, ops }));
    assert.equal(view.counted.of('commits_postponed'), 1);
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), ['reef.test']);
  });

  test('after a #sync of a known account, what it holds is proved anew at its PDS', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    await author.commit([{ action: 'delete', rkey: 'reef.test' }]);
    await view.read(
      frame('#sync', { seq: 8, did: author.did, rev: author.rev, blocks: Buffer.alloc(0), time: '' }),
    );
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), []);
  });

  test('a #sync of an unknown account, or of a rev that is known, changes nothing', async () => {
    const rev = author.rev;
    const sync = (seq: number) =>
      frame('#sync', { seq, did: author.did, rev, blocks: Buffer.alloc(0), time: '' });
    await view.read(sync(6));
    await view.read(commitFrame(7, await author.attest('reef.test')));
    await view.read(sync(8));
    assert.deepEqual(view.attestations.rechecks.due(9), []);
    assert.equal(view.reader.cursor, 8);
  });

  test('a lost stretch of the firehose has everything proved anew', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    await author.commit([{ action: 'delete', rkey: 'reef.test' }]);
    await view.read(frame('#info', { name: 'OutdatedCursor' }));
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), []);
  });

  test('a source that counts anew is read from its beginning', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    await assert.rejects(view.read(errorFrame('FutureCursor')), SourceError);
    assert.equal(view.reader.cursor, 0);
    assert.equal(view.counted.of('firehose_notices{FutureCursor}'), 1);
  });

  test('any other error of a source leaves the cursor', async () => {
    await view.read(commitFrame(7, await author.attest('reef.test')));
    await assert.rejects(view.read(errorFrame('Whatever')), SourceError);
    assert.equal(view.reader.cursor, 7);
    assert.equal(view.counted.of('firehose_notices{other}'), 1);
  });

  test('commits of other collections only move the cursor, and store it at most every 5 s', async () => {
    const post = () =>
      author.commit([{ action: 'create', rkey: 'a', in: 'app.bsky.feed.post', record: { text: '' } }]);
    const body = commitFrame(7, await post());
    await view.read(body);
    assert.equal(directory.asked, 0);
    assert.equal(view.attestations.cursorOf(source), 7);
    await view.read(frame('#identity', { seq: 8, did: author.did }));
    assert.equal(view.reader.cursor, 8);
    assert.equal(view.attestations.cursorOf(source), 7);
    view.clock += 5_000;
    await view.read(frame('#identity', { seq: 9, did: author.did }));
    assert.equal(view.attestations.cursorOf(source), 9);
  });

  test('frames of an unknown type move the cursor, and garbage is counted', async () => {
    await view.read(frame('#future', { seq: 7, anything: [1] }));
    assert.equal(view.reader.cursor, 7);
    await view.read(Buffer.from('not a frame'));
    await view.read(frame('#commit', { seq: 8, ops: [{ path: 'email.atmos.attestation/x' }] }));
    assert.equal(view.counted.of('frames_dropped{malformed}'), 2);
    assert.equal(view.reader.cursor, 8);
  });

  test('account events hide and show', async () => {
    const account = (seq: number, status?: string) =>
      frame('#account', {
        ...{ seq, did: author.did, time: new Date(view.clock + seq).toISOString() },
        ...(status ? { active: false, status } : { active: true }),
      });
    await view.read(account(1, 'deleted'));
    assert.equal(
      view.attestations.knows(author.did),
      false,
      'nothing is kept of an account without attestations',
    );
    await view.read(commitFrame(2, await author.attest('reef.test')));
    for (const [seq, status, shown] of [
      [3, 'deactivated', 0],
      [4, undefined, 1],
      [5, 'takendown', 0],
      [6, 'suspended', 0],
      [7, undefined, 1],
      [8, 'deleted', 0],
      [9, undefined, 1],
    ] as const) {
      view.clock += 1_000;
      await view.read(account(seq, status));
      assert.equal(view.domains().length, shown, `${status}`);
    }
    assert.equal(view.changes.length, 7, 'one for each change of what is shown');
  });

  test('an account that comes back is shown, and what its PDS no longer holds goes again', async () => {
    const account = (seq: number, active: boolean) =>
      frame('#account', { seq, did: author.did, active, time: new Date(view.clock + seq).toISOString() });
    await view.read(commitFrame(1, await author.attest('reef.test')));
    await view.read(account(2, false));
    await author.commit([{ action: 'delete', rkey: 'reef.test' }]);
    await view.read(account(3, true));
    assert.deepEqual(view.domains(), ['reef.test']);
    await view.recheckUntilChange();
    assert.deepEqual(view.domains(), []);
  });

  test('the rechecker lets go of what long deleted accounts left', async () => {
    await view.read(commitFrame(1, await author.attest('reef.test')));
    const deleted = { did: author.did, active: false, status: 'deleted' };
    await view.read(frame('#account', { seq: 2, ...deleted, time: new Date(view.clock).toISOString() }));
    view.clock += 31 * 86_400_000;
    await view.recheckUntilChange();
    assert.deepEqual(view.attestations.hidden(author.did)?.rows, []);
  });
});

/** A reader over an index in memory, with a clock that the test moves. */
class World {
  readonly attestations: Attestations;
  readonly reader: FrameReader;
  readonly counted: Counted = counters();
  readonly changes: AttestationChange[] = [];
  readonly identitiesSeen: string[] = [];
  clock = Date.now();
  readonly #db = openDatabase(':memory:', appviewMigrations, { synchronous: 'NORMAL' });
  readonly #stopping = new AbortController();
  readonly #rechecker: Rechecker;
  #rechecking: Promise<void> = Promise.resolve();
  #onChange: () => void = () => undefined;

  constructor(plcUrl: string) {
    const now = () => this.clock;
    const { signal } = this.#stopping;
    const shared = { log: quiet, count: this.counted.count, now, signal };
    this.attestations = new Attestations({ db: this.#db, ...shared });
    this.attestations.onChange((change) => {
      this.changes.push(change);
      this.#onChange();
    });
    const fetch = guardedFetch({ allowLoopback: true, loopbackOnly: true });
    const parts = { attestations: this.attestations, identities: new Identities({ plcUrl, fetch, now }) };
    this.#rechecker = new Rechecker({ ...shared, ...parts });
    this.reader = new FrameReader({
      ...{ ...shared, ...parts, source },
      onIdentity: (did) => this.identitiesSeen.push(did),
      onPostponed: () => this.#rechecker.wake(),
    });
  }

  read(bytes: Buffer): Promise<void> {
    return this.reader.read(bytes);
  }

  domains(): string[] {
    return this.attestations.domains().sort();
  }

  async recheckUntilChange(): Promise<void> {
    const changed = new Promise<void>((resolve) => {
      this.#onChange = resolve;
    });
    this.#rechecking = this.#rechecker.run();
    await changed;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#rechecking;
    this.#db.close();
  }
}
