import assert from 'node:assert/strict';
import { test } from 'node:test';
import fastify from 'fastify';
import type { Explanation } from '../../appview/listing/listings.ts';
import { registerPages } from '../../node/web/pages.ts';

const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';

function explanation(name: string): Explanation {
  const uri = `at://${did}/email.atmos.attestation/${name}`;
  return {
    listing: {
      ...{ name, list: 'vouched', kind: 3, trust: 1, mailTypes: ['transaction'], coverSubdomains: false },
      ...{ did, vouchers: ['did:web:harbor.test'], url: `https://meadow.test/listing/${name}`, seq: 1 },
    },
    attestation: {
      ...{ did, rkey: name, uri, cid: 'bafyrei', rev: '3l', indexedAt: 0 },
      record: {
        $type: 'email.atmos.attestation',
        ...{ domain: name, dkimSelectors: ['<b>'], createdAt: '2026-11-20T00:00:00Z' },
      },
    },
    votes: [],
  } as Explanation;
}

const app = fastify();
const known = new Set(['reef.test', 'xn--bcher-kva.test']);
registerPages(app, {
  cooperative: {
    name: 'Meadow',
    did: 'did:web:meadow.test',
    poolDomain: 'meadow.test',
    apex: 'list.meadow.test',
  },
  peers: () => [{ did: 'did:web:harbor.test', stance: 'guarantee' }],
  explain: (domain) => (known.has(domain) ? explanation(domain) : undefined),
});

for (const spelling of ['reef.test', 'REEF.test', 'reef.test.', 'bücher.test']) {
  test(`/listing/${spelling} is the page of the listed name`, async () => {
    const { statusCode, body } = await app.inject(`/listing/${encodeURIComponent(spelling)}`);
    assert.equal(statusCode, 200);
    assert.match(body, /Vouched for\./);
    assert.ok(body.includes('&lt;b&gt;') && !body.includes('<b>'), 'what a record says is escaped');
  });
}

for (const name of ['nobody.test', '<script>alert(1)</script>', '%20', '..%2f..']) {
  test(`/listing/${name} says only that it is not vouched for`, async () => {
    const { statusCode, body } = await app.inject(`/listing/${encodeURIComponent(name)}`);
    assert.equal(statusCode, 404);
    assert.match(body, /Not vouched for now\./);
    assert.ok(!body.includes('<script>'));
  });
}

for (const [query, to] of [
  ['domain=reef.test', '/listing/reef.test'],
  ['domain=%20reef.test%20', '/listing/reef.test'],
  ['domain=reef.test&domain=other.test', '/listing/reef.test'],
  ['domain=//evil.test', '/listing/%2F%2Fevil.test'],
  ['', '/listing/'],
] as const) {
  test(`the form with ?${query} leads to ${to}`, async () => {
    const { statusCode, headers } = await app.inject(`/listing?${query}`);
    assert.equal(statusCode, 302);
    assert.equal(headers.location, to);
  });
}

test('home and errors are pages; each error has its anchor', async () => {
  const home = await app.inject('/');
  assert.ok(home.body.includes('did:web:harbor.test') && home.body.includes('guarantee'));
  assert.match((await app.inject('/errors')).body, /<h2 id="domain-mismatch">DOMAIN_MISMATCH<\/h2>/);
});
