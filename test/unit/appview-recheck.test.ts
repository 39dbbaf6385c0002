import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppView } from '../../appview/appview.ts';
import { Identities } from '../../appview/identity/did.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { Author, Directory } from './firehose-fixtures.ts';
import { counters, memoryDatabases, quiet } from './labels-fixtures.ts';

for (const when of ['before', 'after'] as const) {
  test(`a record that no firehose brings is indexed from its PDS when asked for ${when} the start`, async () => {
    const author = await Author.create();
    await author.attest('reef.test');
    const directory = await Directory.start(author);
    const { db, ledgerDb } = memoryDatabases();
    const rules = { allowLoopback: true, loopbackOnly: true };
    const fetch = guardedFetch(rules);
    const appview = new AppView({
      ...{ appviewDb: db, ledgerDb, did: 'did:web:harbor.test', publicUrl: 'https://harbor.test' },
      ...{ firehose: [], follow: [], roots: [], rules, log: quiet, count: counters().count, now: Date.now },
      identities: new Identities({ plcUrl: directory.url, fetch, now: Date.now }),
    });
    const indexed = new Promise((resolve) => {
      appview.attestations.onChange(({ did, rkey }) => resolve([did, rkey]));
    });
    if (when === 'after') {
      appview.start();
      // The list was looked at and found empty.
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(appview.recheck(author.did, 'reef.test'), true);
    if (when === 'before') appview.start();
    assert.deepEqual(await indexed, [author.did, 'reef.test']);
    assert.equal(appview.attestations.isPending(author.did, 'reef.test'), false);
    await appview.stop();
    await directory.stop();
  });
}
