/** Programs that members use submit to the running node; what arrives is what they sent, signed three times. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { createTransport } from 'nodemailer';
import { needs, type PeerName } from '../peers.ts';
import { openRelayWorld, reef, threeGood } from '../relay-world.ts';

const world = await openRelayWorld();
after(() => world.close());
const { node, inbox, reefKey } = world;

type Way = 'starttls' | 'implicit';
const portOf = (way: Way) => (way === 'starttls' ? node.submission.port : node.submissions.port);

/** Sends a message with that subject and a line of UTF-8 with a dot at its start. */
type Client = { name: string; peer?: PeerName; send(subject: string, way: Way): Promise<void> };

async function run(command: string, args: string[], input: string, env = {}): Promise<void> {
  const child = spawn(command, args, { env: { ...process.env, ...env } });
  child.stdin.on('error', () => undefined).end(input);
  const [said, wrong, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  assert.equal(code, 0, `${command}: ${said}${wrong}`);
}

const body = '.a dot, and Grüße\n..two dots\nthe end\n';
const messageWith = (subject: string) =>
  `From: Reef <a@${reef.domain}>\nTo: b@dest.test\nSubject: ${subject}\n` +
  `MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n${body}`;

const python = `
import os, smtplib, ssl, sys
trusting = ssl.create_default_context()
trusting.check_hostname = False
trusting.verify_mode = ssl.CERT_NONE
port = int(os.environ['SMTP_PORT'])
if os.environ['WAY'] == 'implicit':
    client = smtplib.SMTP_SSL('127.0.0.1', port, context=trusting, timeout=20)
else:
    client = smtplib.SMTP('127.0.0.1', port, timeout=20)
    client.starttls(context=trusting)
with client:
    client.login(os.environ['SMTP_USER'], os.environ['SMTP_PASS'])
    client.sendmail('a@reef.test', ['b@dest.test'], sys.stdin.buffer.read().replace(b'\\n', b'\\r\\n'), mail_options=['BODY=8BITMIME'])
`;

const clients: Client[] = [
  {
    name: 'msmtp',
    peer: 'msmtp',
    async send(subject, way) {
      const file = join(world.dir, 'msmtprc');
      const settings = ['host 127.0.0.1', 'auth plain', 'tls on', 'tls_certcheck off', 'timeout 20'];
      const account = [`user ${reef.did}`, `password ${reefKey}`, `from a@${reef.domain}`];
      const connection = [`port ${portOf(way)}`, `tls_starttls ${way === 'starttls' ? 'on' : 'off'}`];
      const lines = ['account default', ...settings, ...account, ...connection];
      writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
      await run('msmtp', ['-C', file, 'b@dest.test'], messageWith(subject));
    },
  },
  {
    name: 'swaks',
    peer: 'swaks',
    async send(subject, way) {
      const server = ['--server', '127.0.0.1', '--port', String(portOf(way)), '--timeout', '20'];
      const tls = way === 'starttls' ? '--tls' : '--tls-on-connect';
      const auth = ['--auth', 'LOGIN', '--auth-user', reef.did, '--auth-password', reefKey];
      const envelope = ['--from', `a@${reef.domain}`, '--to', 'b@dest.test', '--data', '-'];
      await run('swaks', [...server, tls, ...auth, ...envelope], messageWith(subject));
    },
  },
  {
    name: "Python's smtplib",
    peer: 'python3',
    send: (subject, way) =>
      run('/usr/bin/python3', ['-c', python], messageWith(subject), {
        ...{ SMTP_PORT: String(portOf(way)), SMTP_USER: reef.did, SMTP_PASS: reefKey, WAY: way },
      }),
  },
  {
    name: 'nodemailer',
    async send(subject, way) {
      const transport = createTransport({
        ...{ host: '127.0.0.1', port: portOf(way), secure: way === 'implicit', requireTLS: true },
        ...{ tls: { rejectUnauthorized: false }, auth: { user: reef.did, pass: reefKey } },
      });
      const envelope = { from: `a@${reef.domain}`, to: 'b@dest.test' };
      await transport.sendMail({ envelope, raw: messageWith(subject).replaceAll('\n', '\r\n') });
      transport.close();
    },
  },
];

for (const { name, peer, send } of clients) {
  for (const way of ['starttls', 'implicit'] as const) {
    test(`${name} submits over ${way}, and the message arrives as sent with three good signatures`, {
      skip: needs(...(peer ? [peer] : []), 'python3-dkim'),
    }, async () => {
      const subject = `by ${name} over ${way}`;
      await send(subject, way);
      const { raw, tls } = await inbox.waitFor((message) => message.subject === subject, 20_000);
      assert.ok(tls, 'it went out encrypted');
      const arrived = raw.toString('utf8');
      assert.equal(
        arrived.slice(arrived.indexOf('\r\n\r\n') + 4).trimEnd(),
        body.replaceAll('\n', '\r\n').trimEnd(),
      );
      assert.deepEqual(await world.verify(raw), threeGood(reef.domain));
    });
  }
}

test('msmtp says so when the key is wrong', { skip: needs('msmtp') }, async () => {
  const file = join(world.dir, 'msmtprc-wrong');
  const account = `user ${reef.did}\npassword atmos_wrong\nfrom a@${reef.domain}\nport ${portOf('implicit')}\n`;
  const rest = 'host 127.0.0.1\nauth plain\ntls on\ntls_certcheck off\ntls_starttls off\ntimeout 20\n';
  writeFileSync(file, `account default\n${account}${rest}`, { mode: 0o600 });
  await assert.rejects(run('msmtp', ['-C', file, 'b@dest.test'], messageWith('refused')), /535/);
});
