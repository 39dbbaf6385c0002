import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { request } from 'node:http';
import { type TestContext, test } from 'node:test';
import { dkimSign } from 'mailauth/lib/dkim/sign.js';
import { createTransport } from 'nodemailer';
import { generate } from 'selfsigned';
import { DnsWorld } from '../sandbox/dns-world.ts';
import { Inbox } from '../sandbox/inbox.ts';
import { startInboxWeb } from '../sandbox/inbox-web.ts';
import { signatureCheck } from '../sandbox/signatures.ts';

type Summary = {
  id: string;
  from: string;
  to: string[];
  subject: string;
  receivedAt: string;
  mailFrom: string;
};

const { private: key, cert } = await generate([{ name: 'commonName', value: 'mx.inbox.test' }], {
  algorithm: 'sha256',
});

async function start(t: TestContext, limits?: { maxMessages?: number; maxBytes?: number }) {
  const dns = await DnsWorld.start({ port: 0 });
  const inbox = await Inbox.start({
    port: 0,
    tls: { key, cert },
    checkSignatures: signatureCheck(dns),
    now: () => 1_700_000_000_000,
    ...limits,
  });
  const web = await startInboxWeb({ inbox, zone: dns.zone, port: 0 });
  const transport = createTransport({
    host: inbox.host,
    port: inbox.port,
    requireTLS: true,
    tls: { rejectUnauthorized: false },
    pool: true,
    maxConnections: 1,
  });
  t.after(async () => {
    transport.close();
    await Promise.all([web.stop(), inbox.stop(), dns.stop()]);
  });
  const deliver = (raw: string | Buffer, from = 'b-1@harbor.test', to = ['you@inbox.test']) =>
    transport.sendMail({ envelope: { from, to }, raw });
  const get = (path: string) => fetch(`${web.url}${path}`);
  const list = async () => (await (await get('/api/messages')).json()) as Summary[];
  return { dns, inbox, web, deliver, get, list };
}

test('a message over STARTTLS is kept byte for byte', async (t) => {
  const { deliver, list, get } = await start(t);
  const raw = Buffer.from(
    'From: Reef <hello@reef.test>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\n.\r\n..dots\r\n\xff\xfe eight bits\r\n \r\n',
    'latin1',
  );
  const { response } = await deliver(raw, 'b-1@harbor.test', ['you@inbox.test', 'me@orchard.test']);
  assert.match(response, /^250 2\.0\.0 caught as m1$/);
  assert.deepEqual(await list(), [
    {
      id: 'm1',
      from: 'hello@reef.test',
      to: ['you@inbox.test', 'me@orchard.test'],
      subject: 'café',
      receivedAt: '2023-11-14T22:13:20.000Z',
      mailFrom: 'b-1@harbor.test',
    },
  ]);
  const response2 = await get('/api/messages/m1/raw');
  assert.equal(response2.headers.get('content-type'), 'message/rfc822');
  assert.deepEqual(Buffer.from(await response2.arrayBuffer()), raw);
  const details = (await (await get('/api/messages/m1')).json()) as { tls: boolean };
  assert.equal(details.tls, true);
});

test('a null sender, a missing header and an empty message are taken', async (t) => {
  const { deliver, list } = await start(t);
  await deliver('no header here\r\n', '');
  const [message] = await list();
  assert.deepEqual([message?.mailFrom, message?.from, message?.subject], ['', '', '']);
});

test('the newest come first, the oldest go when there is no room', async (t) => {
  const { deliver, list } = await start(t, { maxMessages: 3, maxBytes: 1000 });
  for (const name of ['a', 'b', 'c', 'd']) await deliver(`Subject: ${name}\r\n\r\nx\r\n`);
  const subjects = async () => (await list()).map(({ subject }) => subject);
  assert.deepEqual(await subjects(), ['d', 'c', 'b']);
  await deliver(`Subject: big\r\n\r\n${'x'.repeat(980)}\r\n`);
  assert.deepEqual(await subjects(), ['big']);
});

test('DELETE forgets all, and an unknown message is 404', async (t) => {
  const { deliver, list, get, web } = await start(t);
  await deliver('Subject: a\r\n\r\n');
  const gone = await fetch(`${web.url}/api/messages`, { method: 'DELETE' });
  assert.equal(gone.status, 204);
  assert.deepEqual(await list(), []);
  for (const path of ['/api/messages/m1', '/api/messages/m1/raw', '/messages/m1']) {
    assert.equal((await get(path)).status, 404, path);
  }
});

test('signatures are checked against the DNS world on arrival', async (t) => {
  const { dns, deliver, get } = await start(t);
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const p = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  dns.set('s1._domainkey.reef.test', 'TXT', [`v=DKIM1; k=rsa; p=${p}`]);
  const message = 'From: hello@reef.test\r\nSubject: signed\r\n\r\nHello\r\n';
  const key = {
    signingDomain: 'reef.test',
    selector: 's1',
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
  // Without signatureData mailauth signs nothing, and says so nowhere.
  const { signatures } = await dkimSign(message, { ...key, signatureData: [key] });
  await deliver(signatures + message);
  await deliver(`${signatures}${message}changed\r\n`);
  const results = async (id: string) =>
    (
      (await (await get(`/api/messages/${id}`)).json()) as {
        signatures: { domain: string; result: string }[];
      }
    ).signatures;
  assert.deepEqual(
    (await results('m1')).map(({ domain, result }) => [domain, result]),
    [['reef.test', 'pass']],
  );
  assert.equal((await results('m2'))[0]?.result, 'neutral', 'mailauth calls a wrong body hash neutral');
  assert.match(await (await get('/messages/m1')).text(), /<td class="pass">pass<\/td><td>reef\.test<\/td>/);
});

test('what a message says cannot become markup, and its HTML is not rendered', async (t) => {
  const { deliver, get } = await start(t);
  const evil = '<script>alert(1)</script>';
  await deliver(
    `From: "${evil}" <hello@reef.test>\r\nSubject: ${evil}\r\nX-${'y'.repeat(8)}: ${evil}\r\nContent-Type: text/html\r\n\r\n${evil}<img src=x>\r\n`,
  );
  for (const path of ['/', '/messages/m1']) {
    const response = await get(path);
    const text = await response.text();
    assert.ok(!text.includes('<script') && !text.includes('<img'), path);
    assert.ok(text.includes('&lt;script&gt;alert(1)&lt;/script&gt;'), path);
    assert.equal(response.headers.get('content-security-policy'), "default-src 'none'; style-src 'self'");
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
  }
  assert.equal((await get('/style.css')).headers.get('content-type'), 'text/css; charset=utf-8');
});

test('a request under a foreign name is refused: no DNS rebinding', async (t) => {
  const { web } = await start(t);
  const status = await new Promise((resolve, reject) => {
    request(`${web.url}/api/messages`, { headers: { host: 'evil.example' } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });
  assert.equal(status, 421);
});

test('a record is changed by PUT /api/dns, and a bad one is refused with the reason', async (t) => {
  const { dns, web, get } = await start(t);
  const put = (body: object) =>
    fetch(`${web.url}/api/dns`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const set = { name: '_dmarc.reef.test', type: 'TXT', values: ['v=DMARC1; p=none'] };
  assert.equal((await put(set)).status, 204);
  assert.deepEqual(await (await get('/api/dns')).json(), [set]);
  for (const wrong of [{ ...set, type: 'A' }, { ...set, type: 'NS' }, { name: 'x' }, { ...set, more: 1 }]) {
    assert.equal((await put(wrong)).status, 400);
  }
  assert.equal((await put({ ...set, values: [] })).status, 204);
  assert.equal(dns.zone.lookup(set.name, 'TXT').kind, 'nxdomain');
});

test('waitFor sees what is there, what comes, and says when nothing came', async (t) => {
  const { inbox, deliver } = await start(t);
  const coming = inbox.waitFor(({ subject }) => subject === 'b', 5000);
  await deliver('Subject: a\r\n\r\n');
  await deliver('Subject: b\r\n\r\n');
  assert.equal((await coming).id, 'm2');
  assert.equal((await inbox.waitFor(({ subject }) => subject === 'a', 5000)).id, 'm1');
  await assert.rejects(
    inbox.waitFor(() => false, 1),
    /no such message within 1 ms/,
  );
});
