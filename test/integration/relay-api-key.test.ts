/**
 * A member's API key is nowhere once it was handed over: not in the state, the spool, the log, the metrics,
 * in what the command line and the API print, or in a message; in no form that a protocol gave it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createTransport } from 'nodemailer';
import { freePort } from '../free-port.ts';
import { openRelayWorld, reef, tide } from '../relay-world.ts';

const metricsPort = await freePort();
const listenMetrics = `127.0.0.1:${metricsPort}`;
const world = await openRelayWorld({
  listenMore: { metrics: listenMetrics },
  config: { log: { level: 'debug' } },
});
after(() => world.close());
const { node, inbox, reefKey: key } = world;

/** Every form in which the key may have been written down. */
function formsOf(secret: string): Map<string, Buffer> {
  const forms = new Map<string, Buffer>();
  const add = (name: string, text: string) => forms.set(name, Buffer.from(text, 'latin1'));
  add('raw', secret);
  add('hexadecimal', Buffer.from(secret).toString('hex'));
  add('in a URL', encodeURIComponent(secret));
  // Inside a longer text, base64 depends on where it begins: three ways, without the ends that mix.
  for (const before of [0, 1, 2]) {
    const padded = Buffer.from('\0'.repeat(before) + secret);
    const whole = padded.toString('base64').replace(/=+$/, '');
    add(`base64 at ${before}`, whole.slice(before === 0 ? 0 : 4, -2));
    add(
      `base64url at ${before}`,
      whole
        .slice(before === 0 ? 0 : 4, -2)
        .replaceAll('+', '-')
        .replaceAll('/', '_'),
    );
  }
  add(
    'AUTH PLAIN',
    Buffer.from(`\0${reef.did}\0${secret}`).toString('base64').replace(/=+$/, '').slice(0, -1),
  );
  return forms;
}

const forms = formsOf(key);

function assertAbsent(where: string, bytes: Buffer): void {
  for (const [form, wanted] of forms) {
    assert.equal(bytes.indexOf(wanted), -1, `the key, ${form}, is in ${where}`);
  }
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

async function overSmtp(user: string, pass: string): Promise<void> {
  const transport = createTransport({
    ...{ ...node.submission, requireTLS: true, tls: { rejectUnauthorized: false } },
    auth: { user, pass },
  });
  try {
    await transport.sendMail({ from: 'a@reef.test', to: 'b@dest.test', subject: 'over SMTP', text: 'x' });
  } finally {
    transport.close();
  }
}

function overHttp(path: string, headers: Record<string, string>, body?: unknown): Promise<Response> {
  return fetch(`${node.url}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
}

/** In the clear, before TLS: refused, and what was said must not be kept. */
async function inTheClear(): Promise<void> {
  const socket = connect(node.submission);
  const plain = Buffer.from(`\0${reef.did}\0${key}`).toString('base64');
  socket.write(`EHLO x\r\nAUTH PLAIN ${plain}\r\n${key}\r\nAUTH LOGIN\r\n${key}\r\nQUIT\r\n`);
  for await (const chunk of socket) assert.ok(chunk);
}

const auth = { 'X-Atmos-DID': reef.did, Authorization: `Bearer ${key}` };
const mail = { from: 'a@reef.test', to: 'b@dest.test', subject: 'over HTTP', text: 'x' };

test('the forms find a key where one is', () => {
  const line = Buffer.from(`\0${reef.did}\0${key}`).toString('base64');
  assert.throws(() => assertAbsent('a log', Buffer.from(`C: AUTH PLAIN ${line}`)), /the key, /);
  for (const before of ['', 'a', 'ab', 'abc', 'abcd']) {
    const text = Buffer.from(`${before}${key}, and more`).toString('base64');
    assert.throws(() => assertAbsent('a log', Buffer.from(text)), /base64 at/, before);
  }
});

test('a known API key is found nowhere after mail over SMTP and HTTP, right and wrong', async () => {
  await overSmtp(reef.did, key);
  await assert.rejects(overSmtp(tide.did, key), /535/);
  await assert.rejects(overSmtp(key, reef.did), /535/);
  await inTheClear();
  const sent = await overHttp('/v1/send', { ...auth, 'Idempotency-Key': 'once' }, mail);
  assert.equal(sent.status, 200, await sent.clone().text());
  await overHttp('/v1/send', { ...auth, 'X-Atmos-DID': tide.did }, mail);
  await overHttp('/v1/send', auth, { ...mail, apiKey: key });
  await overHttp('/v1/send', auth, `{"from": "${key}`);
  await overHttp(`/v1/send?key=${key}`, {}, mail);
  await overHttp(`/member/status?did=${reef.did}&token=${key}`, auth);
  await overHttp('/member/status', { Authorization: `Basic ${btoa(`${reef.did}:${key}`)}` });
  for (const subject of ['over SMTP', 'over HTTP']) {
    const { raw } = await inbox.waitFor((message) => message.subject === subject, 20_000);
    assertAbsent(`the message ${subject}`, raw);
  }

  const shown = [
    ...(await Promise.all(
      ['/v1/messages', '/member/status', '/member/deliverability', '/v1/suppressions'].map(async (path) => {
        const answer = await overHttp(path, auth);
        assert.equal(answer.status, 200, path);
        return [path, await answer.text()] as const;
      }),
    )),
    ['the metrics', await (await fetch(`http://${listenMetrics}/metrics`)).text()] as const,
    ['atmos member list', JSON.stringify(await node.cli('member', 'list'))] as const,
    ['atmos keys', JSON.stringify(await node.cli('keys'))] as const,
  ];
  for (const [where, text] of shown) assertAbsent(where, Buffer.from(text));

  const look = () => {
    const files = filesBelow(world.dir);
    assert.ok(files.some((file) => file.endsWith('node.db')) && files.includes(node.logFile));
    for (const file of files) assertAbsent(file, readFileSync(file));
  };
  look();
  await node.kill('SIGTERM');
  look();
});
