/** What the running node delivered, judged by verifiers that receivers use: opendkim as a milter, and rspamd. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createTransport } from 'nodemailer';
import { boundToUs } from '../foreign.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { openRelayWorld, poolDomain, reef } from '../relay-world.ts';
import { until } from '../until.ts';
import { startPostfix } from './mail-servers.ts';

const isRoot = process.getuid?.() === 0;
const world = await openRelayWorld();
after(() => world.close());
const folder = mkdtempSync(join(tmpdir(), 'atmos-verifiers-'));
// Postfix, as another user, finds the milter's socket in it.
chmodSync(folder, 0o755);
after(() => rmSync(folder, { recursive: true, force: true }));

test('opendkim in front of Postfix passes the two RSA signatures', {
  skip: needs('postfix', 'opendkim') || (!isRoot && 'Postfix starts as root only'),
}, async (t) => {
  const milter = await startOpendkim();
  t.after(milter.stop);
  const destination = await startPostfix({ tls: world.certificate }, { smtpd_milters: milter.address });
  t.after(destination.stop);
  await send('judged by opendkim');
  const { raw } = await world.inbox.waitFor((one) => one.subject === 'judged by opendkim', 20_000);

  await hand(destination.port, raw);
  const stored = await until('it is stored', () => destination.stored()[0]);
  const verdicts = [...unfolded(stored).matchAll(/dkim=(\w+) \(([^)]*)\) header\.d=(\S+)/g)];
  const passed = verdicts.filter(([, verdict]) => verdict === 'pass').map(([, , , domain]) => domain);
  assert.deepEqual(new Set(passed), new Set([reef.domain, poolDomain]), unfolded(stored));

  await hand(destination.port, changed(raw));
  const broken = await until(
    'the changed one is stored',
    () => destination.stored()[1] && destination.stored(),
  );
  assert.ok(broken.some((one) => !/dkim=pass/.test(unfolded(one))));
});

test('rspamd allows every signature, and rejects those of a changed message', {
  skip: needs('rspamd'),
}, async (t) => {
  const rspamd = await startRspamd();
  t.after(rspamd.stop);
  await send('judged by rspamd');
  const { raw } = await world.inbox.waitFor((one) => one.subject === 'judged by rspamd', 20_000);

  const { R_DKIM_ALLOW: allowed, R_DKIM_REJECT: rejected } = await rspamd.symbols(raw);
  assert.equal(rejected, undefined);
  const selectors = world.node.records
    .map(({ name }) => /^(.*)\._domainkey\.(.*)$/.exec(name))
    .filter((match) => match && [reef.domain, poolDomain].includes(match[2]!))
    .map((match) => `${match![2]}:s=${match![1]}`);
  assert.equal(selectors.length, 3);
  assert.deepEqual(allowed?.options.toSorted(), selectors.sort());

  const afterwards = await rspamd.symbols(changed(raw));
  assert.equal(afterwards.R_DKIM_ALLOW, undefined);
  assert.equal(afterwards.R_DKIM_REJECT?.options.length, 3);
});

async function send(subject: string): Promise<void> {
  const transport = createTransport({
    ...{ ...world.node.submission, requireTLS: true, tls: { rejectUnauthorized: false } },
    auth: { user: reef.did, pass: world.reefKey },
  });
  const text = '.dot\r\n\r\n  blanks \t and more\r\n';
  await transport.sendMail({
    from: `Reef <a@${reef.domain}>`,
    to: 'b@dest.test',
    subject,
    text,
    html: '<p>x</p>',
  });
  transport.close();
}

/** The very octets, as our node would hand them to that port. */
async function hand(port: number, raw: Buffer): Promise<void> {
  const transport = createTransport({ host: '127.0.0.1', port, tls: { rejectUnauthorized: false } });
  await transport.sendMail({ envelope: { from: `a@${poolDomain}`, to: 'b@dest.test' }, raw });
  transport.close();
}

function changed(raw: Buffer): Buffer {
  const text = raw.toString('latin1').replace('Subject: judged', 'Subject: Judged');
  assert.notEqual(text, raw.toString('latin1'));
  return Buffer.from(text, 'latin1');
}

function unfolded(message: Buffer): string {
  return message
    .toString('latin1')
    .split(/\r?\n\r?\n/, 1)[0]!
    .replace(/\r?\n[ \t]+/g, ' ');
}

async function startOpendkim() {
  const socket = join(folder, 'milter');
  const keys = world.node.records.filter(({ name }) => name.includes('._domainkey.'));
  writeFileSync(join(folder, 'keys'), keys.map(({ name, value }) => `${name} ${value}\n`).join(''));
  const settings = [
    ...['Mode v', `Socket local:${socket}`, 'UMask 000', 'Background no', 'Syslog no'],
    ...[`TestPublicKeys ${join(folder, 'keys')}`, 'AlwaysAddARHeader yes', 'AuthservID mx.dest.test'],
    // Else mail from loopback would be taken for the machine's own.
    ...['InternalHosts 192.0.2.1', 'ExternalIgnoreList 192.0.2.1', 'On-BadSignature accept'],
  ];
  writeFileSync(join(folder, 'opendkim.conf'), `${settings.join('\n')}\n`);
  const child = start(['/usr/sbin/opendkim', '-f', '-x', join(folder, 'opendkim.conf')]);
  await until('opendkim listens', () => existsSync(socket));
  return { address: `unix:${socket}`, stop: () => end(child) };
}

async function startRspamd() {
  const port = await freePort();
  const text = `
options {
  pidfile = "${folder}/rspamd.pid";
  filters = "dkim";
  dns { nameserver = ["127.0.0.1:${world.node.dns.port}"]; timeout = 2s; }
}
logging { type = "console"; level = "info"; }
worker "normal" { bind_socket = "127.0.0.1:${port}"; count = 1; }
dkim { check_local = true; check_authed = true; }
`;
  writeFileSync(join(folder, 'rspamd.conf'), text);
  const child = start(['rspamd', '-f', ...(isRoot ? ['-i'] : []), '-c', join(folder, 'rspamd.conf')]);
  const url = `http://127.0.0.1:${port}`;
  try {
    await until('rspamd answers', async () => (await fetch(`${url}/ping`)).ok);
  } catch (error) {
    await end(child);
    throw new Error(readFileSync(join(folder, 'log'), 'utf8'), { cause: error });
  }
  return {
    symbols: async (message: Buffer) => {
      const answer = await fetch(`${url}/checkv2`, { method: 'POST', body: new Uint8Array(message) });
      const { symbols } = (await answer.json()) as { symbols: Record<string, { options: string[] }> };
      return symbols;
    },
    stop: () => end(child),
  };
}

function start(command: string[]): ChildProcess {
  const log = openSync(join(folder, 'log'), 'a');
  const [file, ...args] = boundToUs(command);
  return spawn(file, args, { stdio: ['ignore', log, log], cwd: folder });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}
