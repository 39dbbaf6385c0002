/**
 * queryLabels over real sockets: what our route answers is what xrpc-server's route answers, read by
 * @atproto/api's client and as plain HTTP.
 */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import { openDatabase } from '../../appview/database.ts';
import { com } from '../../lexicons/index.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { LabelQueries } from '../../node/labeler/label-query.ts';
import { registerLabeler } from '../../node/labeler/xrpc.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { closeHttp, createHttp } from '../../node/web/http.ts';
import { Xrpc } from '../../node/web/xrpc.ts';
import { Fuzz } from '../fuzz/random.ts';

const src = 'did:web:harbor.test';
const val = 'verified-mail-operator';
const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
const path = '/xrpc/com.atproto.label.queryLabels';
const subjects = [
  ...['did:plc:a', 'did:plc:aa', 'did:plc:b_c', 'did:plc:bxc', 'did:plc:%'],
  ...['at://did:plc:a/col/one.test', 'at://did:plc:a/col/two.test', 'at://did:plc:é/col/x'],
];

const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
const key = await Secp256k1Keypair.create({ exportable: true });
const issued = new IssuedLabels({ db, did: src, key, now: Date.now });
const errors: string[] = [];
const log = { error: (_fields: object, text: string) => void errors.push(text) };
const closes: (() => Promise<void>)[] = [];
after(() => Promise.all(closes.map((close) => close())));
let ours = '';
let theirs = '';

async function serve(addMethods: (xrpc: Xrpc) => Promise<void>): Promise<string> {
  const xrpc = new Xrpc({ addMethods: () => undefined, log });
  await addMethods(xrpc);
  const http = createHttp({ xrpc, maxSubscribers: 1, count: () => undefined, log });
  await http.listen({ host: '127.0.0.1', port: 0 });
  closes.push(() => closeHttp(http, xrpc));
  return `http://127.0.0.1:${(http.server.address() as AddressInfo).port}`;
}

before(async () => {
  for (const uri of subjects) await issued.append({ issue: [{ uri, val, cid }], negate: [] });
  const exp = new Date(Date.now() + 1e9).toISOString();
  await issued.append({ issue: [{ uri: 'did:plc:a', val: 'clean-sender', exp }], negate: [] });
  ours = await serve((xrpc) =>
    registerLabeler(xrpc, { db, issued, now: Date.now, count: () => undefined, log }),
  );
  // The same questions to the same table through xrpc-server's own route.
  theirs = await serve(async (xrpc) => {
    const queries = new LabelQueries(db, issued);
    (await xrpc.open()).add(com.atproto.label.queryLabels.main, {
      handler: async ({ params: { uriPatterns, limit = 50, cursor } }) => {
        const page = await queries.page({ uriPatterns, limit, ...(cursor && { cursor }) }, Date.now());
        assert.ok(page.kind === 'page');
        const rows = JSON.parse(`[${page.labels}]`) as { sig: { $bytes: string } }[];
        const labels = rows.map((row) => ({ ...row, sig: Buffer.from(row.sig.$bytes, 'base64') })) as never;
        return {
          encoding: 'application/json',
          body: { ...(page.cursor && { cursor: page.cursor }), labels },
        };
      },
    });
  });
});

async function get(base: string, query: string, method = 'GET') {
  const response = await fetch(`${base}${path}${query}`, { method });
  const text = await response.text();
  return { status: response.status, type: response.headers.get('content-type'), text };
}

const asked = [
  ...['?uriPatterns=did:plc:a', '?uriPatterns=did:plc:*', '?uriPatterns=*', '?uriPatterns=*&limit=2'],
  ...['?uriPatterns=did:plc:b_*', '?uriPatterns=did:plc:%25', '?uriPatterns=at%3A%2F%2Fdid%3Aplc%3A%C3%A9/*'],
  ...[
    '?uriPatterns=did:plc:a&uriPatterns=did:plc:aa',
    '?uriPatterns=did:plc:a&foo=1',
    '?limit=3&uriPatterns=*',
  ],
  ...['?uriPatterns=*&limit=250', '?uriPatterns=none', '?uriPatterns=*&cursor=', '?uriPatterns=*&limit='],
  ...['?uriPatterns=did:plc:a+b', '?uriPatterns=&uriPatterns=did:plc:a', '?uriPatterns[]=did:plc:a'],
  ...['', '?', '?limit=5', '?uriPatterns=', '?uriPatterns=*&limit=0', '?uriPatterns=*&limit=251'],
  ...[
    '?uriPatterns=*&limit=x',
    '?uriPatterns=*&limit=1.5',
    '?uriPatterns=*&limit=-1',
    '?uriPatterns=*&limit=007',
  ],
  ...['?uriPatterns=*&limit=3&limit=4', '?uriPatterns=*&sources=x', '?uriPatterns=*&cursor=a&cursor=b'],
  ...['?uriPatterns=*&limit=1e1', '?uriPatterns=*&limit=%203', '?__proto__=1&uriPatterns=*'],
];
for (const query of asked) {
  test(`"${query}" is answered as xrpc-server answers it`, async () => {
    const [a, b] = [await get(ours, query), await get(theirs, query)];
    assert.deepEqual(a, b);
  });
}

test('another method is refused in the same words, HEAD is GET without a body', async () => {
  assert.deepEqual(await get(ours, '?uriPatterns=*', 'POST'), await get(theirs, '?uriPatterns=*', 'POST'));
  const { status, text } = await get(ours, '?uriPatterns=*', 'HEAD');
  assert.deepEqual([status, text], [200, '']);
  const head = await fetch(`${ours}${path}?uriPatterns=did:plc:b_c`, { method: 'HEAD' });
  const whole = await get(ours, '?uriPatterns=did:plc:b_c');
  assert.equal(head.headers.get('content-length'), String(Buffer.byteLength(whole.text)));
});

test('a page of any origin may ask', async () => {
  const preflight = await fetch(`${ours}${path}?uriPatterns=*`, {
    method: 'OPTIONS',
    headers: { origin: 'https://x.test', 'access-control-request-headers': 'atproto-accept-labelers' },
  });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get('access-control-allow-headers'), '*');
  for (const query of ['?uriPatterns=*', '']) {
    const response = await fetch(`${ours}${path}${query}`);
    assert.equal(response.headers.get('access-control-allow-origin'), '*');
  }
});

test('the body of a request is ignored, and the connection goes on', async () => {
  const { request, Agent } = await import('node:http');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const statuses: number[] = [];
  for (let n = 0; n < 3; n++) {
    statuses.push(
      await new Promise((resolve, reject) => {
        const req = request(
          `${ours}${path}?uriPatterns=did:plc:a`,
          { agent, method: 'GET', headers: { 'content-length': 1_000 } },
          (reply) => {
            reply.resume().on('end', () => resolve(reply.statusCode!));
          },
        );
        req.on('error', reject).end('x'.repeat(1_000));
      }),
    );
  }
  agent.destroy();
  assert.deepEqual(statuses, [200, 200, 200]);
});

test('sources leave out what is not ours, and are checked', async () => {
  const labels = async (query: string) => JSON.parse((await get(ours, query)).text).labels.length as number;
  assert.equal(await labels(`?uriPatterns=*&sources=${src}`), subjects.length + 1);
  assert.equal(await labels(`?uriPatterns=*&sources=did:web:x.test&sources=${src}`), subjects.length + 1);
  assert.equal(await labels('?uriPatterns=*&sources=did:web:x.test'), 0);
});

test("@atproto/api's client pages to the end, each label once, signatures whole", async () => {
  const { com: methods } = new AtpAgent({ service: ours });
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const { data } = await methods.atproto.label.queryLabels({
      ...{ uriPatterns: ['did:*', 'at://*'], limit: 2 },
      ...(cursor !== undefined && { cursor }),
    });
    for (const { sig, ...fields } of data.labels) {
      seen.push(`${fields.uri} ${fields.val}`);
      assert.equal(await verifySignature(key.did(), encode(fields as never), sig as Uint8Array), true);
    }
    cursor = data.cursor;
  } while (cursor !== undefined);
  const expected = [...subjects.map((uri) => `${uri} ${val}`), 'did:plc:a clean-sender'];
  assert.deepEqual([...seen].sort(), expected.sort());
});

test('nonsense is refused or answered empty, never an error of ours', async () => {
  const fuzz = new Fuzz('labeler-query');
  const seeds = asked.filter((query) => query.length > 1);
  const page = JSON.parse((await get(ours, '?uriPatterns=*&limit=2')).text) as { cursor: string };
  seeds.push(`?uriPatterns=*&limit=3&cursor=${page.cursor}`);
  const statuses = new Set<number>();
  for (let round = fuzz.rounds(150, 10); round > 0; round--) {
    const query = fuzz.mutate(Buffer.from(fuzz.pick(seeds)), 1).toString('latin1');
    const { status, text } = await get(ours, encodeURI(query).replaceAll('#', '%23'));
    statuses.add(status);
    const answer = JSON.parse(text) as { labels?: unknown[]; error?: string };
    assert.ok(status === 200 ? Array.isArray(answer.labels) : answer.error === 'InvalidRequest', query);
  }
  assert.deepEqual([...statuses].sort(), [200, 400]);
});

test('a made-up cursor begins anywhere in the order and never repeats or leaves the patterns', async () => {
  const fuzz = new Fuzz('labeler-cursors');
  const queries = new LabelQueries(db, issued);
  const sorted = [...subjects, 'did:plc:a'].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (let round = fuzz.rounds(300); round > 0; round--) {
    const position = [fuzz.pick([...subjects, '', 'zzz', '\u{10ffff}']), fuzz.below(20) - 3];
    const cursor = Buffer.from(JSON.stringify(position)).toString('base64url');
    const uriPatterns = Array.from({ length: 1 + fuzz.below(4) }, () => {
      const uri = fuzz.pick(subjects);
      return fuzz.below(2) ? uri : `${uri.slice(0, fuzz.below(uri.length + 1))}*`;
    });
    const found = await queries.page({ uriPatterns, limit: 250, cursor }, Date.now());
    assert.ok(found.kind === 'page');
    const uris = (JSON.parse(`[${found.labels}]`) as { uri: string }[]).map(({ uri }) => uri);
    const matches = (uri: string) =>
      uriPatterns.some((pattern) =>
        pattern.endsWith('*') ? uri.startsWith(pattern.slice(0, -1)) : uri === pattern,
      );
    const behind = (uri: string) =>
      Buffer.compare(Buffer.from(uri), Buffer.from(position[0] as string)) > 0
        ? 1
        : uri === position[0]
          ? 0
          : -1;
    const expected = sorted.filter((uri) => matches(uri) && behind(uri) === 1);
    assert.deepEqual(
      uris.filter((uri) => uri !== position[0]),
      expected,
    );
    assert.ok(uris.every(matches));
  }
});

test('an answer that fails is a 500 in the words of XRPC, and a line in the log', async () => {
  errors.length = 0;
  const broken = await serve((xrpc) =>
    registerLabeler(xrpc, {
      ...{ db, issued, count: () => undefined, log },
      now: () => {
        throw new Error('no time');
      },
    }),
  );
  const { status, text } = await get(broken, '?uriPatterns=*');
  assert.deepEqual(
    [status, JSON.parse(text)],
    [500, { error: 'InternalServerError', message: 'Internal Server Error' }],
  );
  assert.deepEqual(errors, ['queryLabels failed']);
});
