/** Debian's SpamAssassin (spamd) with its stock rules and ours, asked in its own protocol. */
import { once } from 'node:events';
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { freePort } from '../../free-port.ts';
import { newFolder, startProgram } from './program.ts';
import type { Verdict } from './rspamd.ts';

export type SpamAssassin = {
  judge(message: Buffer): Promise<Verdict>;
  log(): string;
  stop(): Promise<void>;
};

/** @param rules the text of a .cf file */
export async function startSpamAssassin(o: {
  resolver: { host: string; port: number };
  rules: string;
}): Promise<SpamAssassin> {
  const { dir, remove } = newFolder('spamassassin');
  const port = await freePort();
  const site = join(dir, 'site');
  for (const name of [site, join(dir, 'home')]) mkdirSync(name);
  for (const file of globSync('/etc/spamassassin/*.pre'))
    writeFileSync(join(site, basename(file)), withoutNetwork(readFileSync(file, 'utf8')));
  const settings = [
    ...['dns_available yes', 'clear_dns_servers', `dns_server [${o.resolver.host}]:${o.resolver.port}`],
    ...['trusted_networks 192.0.2.222', 'use_bayes 0', 'use_auto_welcomelist 0'],
    ...['clear_headers', 'report_safe 0', 'add_header all Scores _TESTSSCORES(,)_'],
  ];
  writeFileSync(join(site, 'local.cf'), `${settings.join('\n')}\n`);
  writeFileSync(join(site, 'zz-ours.cf'), o.rules);
  const program = await startProgram({
    dir,
    command: [
      ...['/usr/sbin/spamd', '--nouser-config', '--syslog=stderr', '--min-children=1', '--max-children=1'],
      ...[`--listen=127.0.0.1:${port}`, `--pidfile=${dir}/pid`, `--helper-home-dir=${dir}/home`],
      ...['--configpath=/usr/share/spamassassin', `--siteconfigpath=${site}`],
    ],
    ready: () => ask(port, 'PING').then((said) => said.includes('PONG')),
  });
  return {
    log: program.log,
    judge: async (message) => verdictOf(await ask(port, 'HEADERS', message)),
    stop: async () => {
      await program.stop();
      remove();
    },
  };
}

/** Those ask servers of their own, of which there are none here. */
function withoutNetwork(text: string): string {
  return text.replace(/^loadplugin .*::(Pyzor|Razor2|SpamCop)\b/gm, '# $&');
}

async function ask(port: number, word: string, message?: Buffer): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  socket.write(`${word} SPAMC/1.5\r\n${message ? `Content-length: ${message.length}\r\n` : ''}\r\n`);
  if (message) socket.write(message);
  socket.end();
  return (await buffer(socket)).toString('latin1');
}

function verdictOf(said: string): Verdict {
  const score = /^Spam: \S+ ; (\S+) \//m.exec(said);
  const scores = /^X-Spam-Scores: (.*(?:\r?\n[ \t].*)*)/m.exec(said);
  if (!score || !scores) throw new Error(said);
  const symbols = scores[1]!.replace(/\s/g, '').split(',');
  const pairs = symbols.map((symbol) => symbol.split('=') as [string, string]);
  return {
    score: Number(score[1]),
    symbols: Object.fromEntries(pairs.map(([name, points]) => [name, Number(points)])),
  };
}
