import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { Identities, IdentityNotFound, IdentityUnavailable } from '../../appview/identity/did.ts';
import { FetchFailed, FetchRefused, type GuardedFetch } from '../../appview/identity/fetch.ts';

const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
const second = 1_000;
const hour = 3_600 * second;

describe('identities', () => {
  let clock: number;
  let asked: string[];
  /** What the network answers next: a status, a document, or an error. */
  let answer: number | Record<string, unknown> | Error;
  let identities: Identities;

  const fetch: GuardedFetch = async (url) => {
    asked.push(url);
    if (answer instanceof Error) throw answer;
    if (typeof answer === 'number') return { status: answer, headers: {}, body: Buffer.alloc(0) };
    return { status: 200, headers: {}, body: Buffer.from(JSON.stringify(answer)) };
  };

  beforeEach(() => {
    clock = 1_780_272_000_000;
    asked = [];
    answer = { id: did, alsoKnownAs: ['at://reef.test'] };
    identities = new Identities({ plcUrl: 'https://plc.test/', fetch, now: () => clock });
  });

  const urls: [string, string][] = [
    [did, `https://plc.test/${did}`],
    ['did:web:harbor.test', 'https://harbor.test/.well-known/did.json'],
    ['did:web:localhost%3A8080', 'http://localhost:8080/.well-known/did.json'],
    ['did:web:localhost', 'http://localhost/.well-known/did.json'],
  ];
  for (const [name, url] of urls) {
    test(`${name} is asked at ${url}`, async () => {
      answer = { id: name };
      await identities.resolve(name);
      assert.deepEqual(asked, [url]);
    });
  }

  test('what is known is told without asking, also when it is old', async () => {
    assert.equal(identities.known(did), undefined);
    assert.deepEqual(asked, []);
    const resolved = await identities.resolve(did);
    clock += 1_000 * hour;
    assert.equal(identities.known(did), resolved);
    assert.equal(asked.length, 1);
  });

  const foreign = [
    'did:key:zQ3sh',
    'did:plc:short',
    'did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ',
    'did:web:harbor.test:path',
    'did:web:harbor.test%3A8080',
    'did:web:harbor.test/../x',
    'did:web:user@harbor.test',
    '../admin',
    '',
  ];
  for (const name of foreign) {
    test(`'${name}' is not asked anywhere`, async () => {
      await assert.rejects(identities.resolve(name), IdentityNotFound);
      assert.deepEqual(asked, []);
    });
  }

  test('an answer is kept for an hour', async () => {
    assert.equal((await identities.resolve(did)).handle, 'reef.test');
    clock += hour - 1;
    await identities.resolve(did);
    assert.equal(asked.length, 1);
    clock += 1;
    await identities.resolve(did);
    assert.equal(asked.length, 2);
  });

  test('what is forgotten is asked anew', async () => {
    await identities.resolve(did);
    identities.forget(did);
    answer = { id: did, alsoKnownAs: ['at://new.test'] };
    assert.equal((await identities.resolve(did)).handle, 'new.test');
  });

  test('an answer under way when the identity changed is not kept, however late it comes', async () => {
    const held = Promise.withResolvers<void>();
    const slow: GuardedFetch = async (url) => {
      const isFirst = asked.length === 0;
      const response = await fetch(url);
      if (isFirst) await held.promise;
      return response;
    };
    const ours = new Identities({ plcUrl: 'https://plc.test', fetch: slow, now: () => clock });
    const early = ours.resolve(did);
    ours.forget(did);
    answer = { id: did, alsoKnownAs: ['at://new.test'] };
    assert.equal((await ours.resolve(did)).handle, 'new.test');
    held.resolve();
    assert.equal((await early).handle, 'reef.test');
    assert.equal((await ours.resolve(did)).handle, 'new.test');
  });

  test('a refresh asks at most every five seconds', async () => {
    await identities.resolve(did);
    clock += 5 * second - 1;
    await identities.resolve(did, { refresh: true });
    assert.equal(asked.length, 1);
    clock += 1;
    await identities.resolve(did, { refresh: true });
    assert.equal(asked.length, 2);
  });

  test('those who ask at once share one question', async () => {
    await Promise.all([identities.resolve(did), identities.resolve(did), identities.resolve(did)]);
    assert.equal(asked.length, 1);
  });

  test('while the network gives no answer, one of the last day serves', async () => {
    await identities.resolve(did);
    answer = new FetchFailed('down');
    clock += 24 * hour - 1;
    assert.equal((await identities.resolve(did)).handle, 'reef.test');
    await assert.rejects(identities.resolve(did, { refresh: true }), IdentityUnavailable);
    clock += 1;
    await assert.rejects(identities.resolve(did), IdentityUnavailable);
  });

  test('absence is kept for a minute', async () => {
    answer = 404;
    await assert.rejects(identities.resolve(did), IdentityNotFound);
    answer = { id: did };
    clock += 60 * second - 1;
    await assert.rejects(identities.resolve(did), IdentityNotFound);
    clock += 1;
    assert.deepEqual(await identities.resolve(did), { did });
  });

  const failures: [string, number | Record<string, unknown> | Error, new () => Error][] = [
    ['404', 404, IdentityNotFound],
    ['410, a tombstone', 410, IdentityNotFound],
    ['429', 429, IdentityUnavailable],
    ['500', 500, IdentityUnavailable],
    ['a redirect', 302, IdentityUnavailable],
    ["another DID's document", { id: 'did:plc:other' }, IdentityNotFound],
    ['an address that is refused', new FetchRefused('private'), IdentityNotFound],
    ['no connection', new FetchFailed('down'), IdentityUnavailable],
  ];
  for (const [name, given, expected] of failures) {
    test(`${name} is ${expected.name}`, async () => {
      answer = given;
      await assert.rejects(identities.resolve(did), expected);
    });
  }

  test('our own document is never fetched, and is as it stands now', async () => {
    let handle = 'harbor.test';
    const own = () => ({ id: 'did:web:harbor.test', alsoKnownAs: [`at://${handle}`] });
    const ours = new Identities({ plcUrl: 'https://plc.test', fetch, now: () => clock, own });
    assert.equal((await ours.resolve('did:web:harbor.test')).handle, 'harbor.test');
    handle = 'port.test';
    assert.equal((await ours.resolve('did:web:harbor.test')).handle, 'port.test');
    assert.deepEqual(asked, []);
  });

  test('the cache is bounded: the least recently used goes', async () => {
    const small = new Identities({ plcUrl: 'https://plc.test', fetch, now: () => clock, maxEntries: 2 });
    const resolve = (name: string) => {
      answer = { id: name };
      return small.resolve(name);
    };
    for (const name of ['did:web:a.test', 'did:web:b.test', 'did:web:a.test', 'did:web:c.test']) {
      await resolve(name);
    }
    asked = [];
    await resolve('did:web:a.test');
    await resolve('did:web:b.test');
    assert.deepEqual(asked, ['https://b.test/.well-known/did.json']);
  });
});
