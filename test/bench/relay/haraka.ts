/**
 * Haraka, installed by npm into a cache folder when first needed; never a dependency.
 *
 * Its DKIM plugin makes one signature; a plugin of ours calls that plugin's signing twice. It closes each
 * outgoing connection after one message, and writes to its queue folder without a sync: its `250` promises
 * less than that of the others.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { startForeign, stop, untilListening } from './children.ts';
import { login, type Running, recipientDomain, type Surroundings, type System } from './system.ts';

const home = join(tmpdir(), 'atmos-bench-cache', 'haraka-3.3.4');
const manifest = {
  private: true,
  dependencies: { Haraka: '3.3.4', 'haraka-plugin-dkim': '1.3.1' },
  // What Haraka's tree names and not every registry has.
  overrides: { 'encoding-japanese': '2.2.0', libqp: '2.1.2' },
};

function missing(): string | false {
  if (existsSync(join(home, 'node_modules/haraka-plugin-dkim'))) return false;
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, 'package.json'), JSON.stringify(manifest));
  try {
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--omit=optional'];
    execFileSync('npm', ['install', ...flags], { cwd: home, stdio: ['ignore', 'ignore', 'pipe'] });
    return false;
  } catch (error) {
    return `npm could not install Haraka: ${String((error as { stderr?: Buffer }).stderr).slice(0, 300)}`;
  }
}

/** With AUTH, STARTTLS both ways and two rsa-sha256 signatures. */
export const haraka: System = {
  ...{ key: 'haraka', name: 'Haraka 3.3.4', missing },
  start: (around) => start(around, true),
};

/** Without AUTH, TLS and signatures. */
export const bareHaraka: System = {
  ...{ key: 'haraka', name: 'Haraka 3.3.4', missing },
  start: (around) => start(around, false),
};

async function start(around: Surroundings, isFull: boolean): Promise<Running> {
  const { dir, dkim } = around;
  const port = await freePort();
  cpSync(join(home, 'node_modules/Haraka/config'), join(dir, 'config'), { recursive: true });
  mkdirSync(join(dir, 'plugins'));
  const files = { ...configuration(port, isFull), 'plugins/bench.js': plugin(around, isFull) };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  cpSync(around.tls.keyFile, join(dir, 'config/tls_key.pem'));
  cpSync(around.tls.certFile, join(dir, 'config/tls_cert.pem'));
  // Else it makes them itself, which would take a core for a minute.
  execFileSync('openssl', ['dhparam', '-dsaparam', '-out', join(dir, 'config/dhparams.pem'), '2048'], {
    stdio: 'ignore',
  });
  const logFile = join(dir, 'log');
  const child = startForeign({
    command: [process.execPath, join(home, 'node_modules/Haraka/bin/haraka'), '-c', dir],
    ...{ logFile, env: { NODE_PATH: join(home, 'node_modules') } },
  });
  await untilListening(port, logFile);
  return {
    ...{ port, recipientDomain, pids: [child.pid!], stop: () => stop(child) },
    ...(isFull && { auth: login, records: dkim.map(({ text }) => text) }),
  };
}

function configuration(port: number, isFull: boolean): Record<string, string> {
  return {
    'config/smtp.ini': `listen=127.0.0.1:${port}\nnodes=0\n`,
    'config/me': 'haraka.pool.test\n',
    'config/host_list': '',
    'config/log.ini': '[main]\nlevel=error\n',
    'config/plugins': isFull ? 'tls\nauth/flat_file\nbench\n' : 'bench\n',
    'config/auth_flat_file.ini': `[core]\nmethods=PLAIN\nconstrain_sender=false\n[users]\n${login.user}=${login.pass}\n`,
    'config/outbound.ini': `local_mx_ok=true\nenable_tls=${isFull}\nconcurrency_max=30\n`,
    'config/databytes': '50000000\n',
  };
}

/** CommonJS, as Haraka loads it. */
function plugin({ sinkPort, dkim }: Surroundings, isFull: boolean): string {
  const keys = dkim.map(({ domain, selector, keyFile }) => ({ domain, selector, keyFile }));
  return `'use strict';
exports.hook_get_mx = (next) => next(OK, [{ priority: 0, exchange: '127.0.0.1', port: ${sinkPort} }]);
${isFull ? '' : 'exports.hook_connect = (next, connection) => { connection.relaying = true; next(); };'}
${
  isFull
    ? `const signer = require('haraka-plugin-dkim');
const { readFileSync } = require('node:fs');
const keys = ${JSON.stringify(keys)}.map(({ domain, selector, keyFile }) => ({
  domain, selector, private_key: readFileSync(keyFile, 'utf8'), body_canon: 'relaxed',
  headers: ['from', 'to', 'subject', 'date', 'message-id', 'mime-version', 'content-type'],
}));
exports.hook_queue_outbound = (next, { transaction }) => {
  const sign = async () => {
    const made = [];
    for (const key of keys) {
      made.push(await signer.run_sign_stream(transaction, key));
      transaction.message_stream.unpipe();
    }
    for (const header of made) transaction.add_header('DKIM-Signature', header);
  };
  sign().then(() => next(), next);
};`
    : ''
}
`;
}
