import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import fastify from 'fastify';
import { openDatabase } from '../../appview/database.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { type UnsubscribeEvent, UnsubscribeLinks, unsubscribeRoutes } from '../../node/relay/unsubscribe.ts';
import { Fuzz } from '../fuzz/random.ts';

const key = Buffer.alloc(32, 7);
const links = new UnsubscribeLinks({ key, publicUrl: 'https://harbor.test/' });
const who = {
  did: 'did:plc:abcdefghijklmnopqrstuvwx',
  address: 'Some.One@example.com',
  recipientId: '0123456789abcdef.12',
};
const tokenOf = (url: string): string => url.slice(url.lastIndexOf('/') + 1);

const now = 1_800_000_000_000;
let suppressions: Suppressions;
let events: UnsubscribeEvent[];
let counted: string[];
const app = fastify();
after(() => app.close());
await app.register(
  unsubscribeRoutes({
    links,
    suppressions: {
      has: (...o) => suppressions.has(...o),
      add: (o) => suppressions.add(o),
    },
    record: (event, change) => {
      change();
      events.push(event);
    },
    domainOf: async (messageId) => {
      if (messageId !== '0123456789abcdef') throw new Error('the spool is gone');
      return 'news.reef.test';
    },
    domainsOf: (did) => (did === who.did ? ['reef.test', 'news.reef.test'] : []),
    cooperative: 'Harbor <1>',
    simulatorDomain: 'simulator.harbor.test',
    count: (what) => counted.push(what),
  }),
);

test('a link gives back member, address and recipient', () => {
  const longest = {
    did: `did:web:${'d'.repeat(245)}`,
    address: `${'a'.repeat(64)}@${'b'.repeat(249)}.com`,
    recipientId: '0123456789abcdef.999999',
  };
  const smtpUtf8 = { ...who, address: 'jürgen@bücher.example' };
  for (const one of [who, longest, smtpUtf8]) {
    const url = links.of(one);
    assert.match(url, /^https:\/\/harbor\.test\/u\/[A-Za-z0-9_-]+$/);
    assert.ok(`List-Unsubscribe: <${url}>`.length <= 998, `${url.length}`);
    assert.deepEqual(links.read(tokenOf(url)), one);
  }
  assert.ok(links.of(who).length < 170);
});

test('the same recipient has the same link, another one another', () => {
  assert.equal(links.of(who), links.of(who));
  const others = [{ address: 'b@example.com' }, { did: 'did:plc:b' }, { recipientId: '0123456789abcdef.13' }];
  for (const other of others) assert.notEqual(links.of({ ...who, ...other }), links.of(who));
});

test('without the key a token tells nothing and none can be made', () => {
  const token = tokenOf(links.of(who));
  assert.doesNotMatch(Buffer.from(token, 'base64url').toString('latin1'), /example|abcdef|ome/i);
  const other = new UnsubscribeLinks({ key: Buffer.alloc(32, 8), publicUrl: 'https://harbor.test' });
  assert.equal(links.read(tokenOf(other.of(who))), undefined);
  assert.throws(
    () => new UnsubscribeLinks({ key: Buffer.alloc(8), publicUrl: 'https://harbor.test' }),
    RangeError,
  );
});

test('whatever is not a token is refused', () => {
  const fuzz = new Fuzz('unsubscribe');
  const token = Buffer.from(tokenOf(links.of(who)));
  for (const text of ['', 'x', '=', 'a'.repeat(37), 'é', '../..', 'A'.repeat(10_000)])
    assert.equal(links.read(text), undefined);
  for (let round = fuzz.rounds(2_000, 5); round > 0; round--) {
    const made = fuzz.mutate(token).toString('latin1');
    const read = links.read(made);
    // The last character of base64 may have bits that count for nothing.
    if (read) assert.ok(Buffer.from(made, 'base64url').equals(Buffer.from(token.toString(), 'base64url')));
  }
});

beforeEach(() => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'FULL' });
  suppressions = new Suppressions({ db, now: () => now });
  events = [];
  counted = [];
});

const path = new URL(links.of(who)).pathname;
const oneClick = 'List-Unsubscribe=One-Click';
const form = { 'content-type': 'application/x-www-form-urlencoded' };
const post = (url = path, payload: string | undefined = oneClick, headers: Record<string, string> = form) =>
  app.inject({ method: 'POST', url, headers, ...(payload !== undefined && { payload }) });

test('looking shows a button and does nothing', async () => {
  for (const method of ['GET', 'HEAD'] as const) {
    const page = await app.inject({ method, url: path });
    assert.equal(page.statusCode, 200);
  }
  const { body, headers } = await app.inject({ method: 'GET', url: path });
  assert.match(body, /<form method="post">/);
  assert.match(body, /<button>Unsubscribe<\/button>/);
  assert.match(body, /reef\.test, news\.reef\.test/);
  assert.match(body, /Harbor &lt;1&gt;/);
  assert.equal(headers['set-cookie'], undefined);
  assert.equal(headers['cache-control'], 'no-store');
  assert.equal(headers['referrer-policy'], 'no-referrer');
  assert.equal(suppressions.find(who.did, who.address), undefined);
  assert.deepEqual(events, []);
});

test('the page does not tell the address to whoever got the mail forwarded', async () => {
  for (const { body } of [await app.inject({ method: 'GET', url: path }), await post()]) {
    assert.doesNotMatch(body, /Some\.One/i);
    assert.match(body, /S•••@example\.com/);
  }
});

test('one click unsubscribes, with an event of its cause', async () => {
  const page = await post();
  assert.equal(page.statusCode, 200);
  assert.match(page.body, /You are unsubscribed/);
  const entry = suppressions.find(who.did, 'some.one@example.com');
  assert.equal(entry?.reason, 'unsubscribe');
  assert.equal(entry?.messageId, '0123456789abcdef');
  assert.equal(entry?.expiresAt, null);
  assert.deepEqual(events, [
    {
      type: 'unsubscribe',
      did: who.did,
      domain: 'news.reef.test',
      messageId: '0123456789abcdef',
      recipientId: who.recipientId,
      detail: { recipient: who.address },
    },
  ]);
});

test('a second click answers the same and records nothing more', async () => {
  const [first, second] = [await post(), await post()];
  assert.equal(second.statusCode, first.statusCode);
  assert.equal(second.body, first.body);
  assert.equal(events.length, 1);
  const afterwards = await app.inject({ method: 'GET', url: path });
  assert.match(afterwards.body, /You are unsubscribed/);
});

test('who unsubscribes after a bounce stays unsubscribed when the bounce ends', async () => {
  suppressions.add({ did: who.did, address: who.address, reason: 'bounce', evidence: '550' });
  await post();
  assert.equal(suppressions.has(who.did, who.address, 'unsubscribe'), true);
});

const boundary =
  '--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n';
const ways: [string, string | undefined, Record<string, string>][] = [
  ['a multipart form', boundary, { 'content-type': 'multipart/form-data; boundary=x' }],
  ['no body', undefined, {}],
  ['a body of no type', oneClick, {}],
  ['JSON that is none', '{', { 'content-type': 'application/json' }],
];
for (const [name, payload, headers] of ways) {
  test(`a POST with ${name} unsubscribes too`, async () => {
    assert.equal((await post(path, payload, headers)).statusCode, 200);
    assert.equal(events.length, 1);
  });
}

test('a body beyond a form is refused', async () => {
  assert.equal((await post(path, 'x'.repeat(20_000))).statusCode, 413);
  assert.equal(events.length, 0);
});

test('a wrong token is a page that says so, and touches nothing', async () => {
  for (const url of [`${path.slice(0, -2)}AA`, '/u/x', '/u/', `${path}/x`, `/u/${'A'.repeat(5_000)}`]) {
    assert.equal((await app.inject({ method: 'GET', url })).statusCode, 404);
    const page = await post(url);
    assert.equal(page.statusCode, 404);
    assert.match(page.body, /This link does not work/);
  }
  assert.deepEqual(events, []);
});

test('the link of a simulated recipient answers and touches nothing', async () => {
  const simulated = { ...who, address: 'Delivered@Simulator.harbor.test' };
  const page = await post(new URL(links.of(simulated)).pathname);
  assert.equal(page.statusCode, 200);
  assert.equal(suppressions.find(who.did, simulated.address), undefined);
  assert.deepEqual(events, []);
  assert.ok(!counted.includes('unsubscribes'));
});

test('a member who left is named as the sender of old', async () => {
  const page = await post(new URL(links.of({ ...who, did: 'did:web:gone.test' })).pathname);
  assert.match(page.body, /This sender/);
});
