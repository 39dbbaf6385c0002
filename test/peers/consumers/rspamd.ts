/** Debian's rspamd with its whole stock configuration, and ours in `local.d`; asked over HTTP as a milter does. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { newFolder, startProgram } from './program.ts';

export type Verdict = {
  score: number;
  /** Score of each symbol that was found. */
  symbols: Record<string, number>;
};

export type Rspamd = {
  judge(o: { from: string; mailFrom: string; message: Buffer }): Promise<Verdict>;
  log(): string;
  stop(): Promise<void>;
};

/** @param localFolder what is copied into `local.d` */
export async function startRspamd(o: {
  resolver: { host: string; port: number };
  localFolder: string;
}): Promise<Rspamd> {
  const { dir, remove } = newFolder('rspamd');
  const port = await freePort();
  const local = join(dir, 'local.d');
  cpSync(o.localFolder, local, { recursive: true });
  const files: Record<string, string> = {
    'options.inc': `
      dns { nameserver = ["${o.resolver.host}:${o.resolver.port}"]; timeout = 5s; }
      # Ten thousand public suffixes take 15 s to compile.
      url_tld = "${dir}/suffixes";
    `,
    'logging.inc': 'type = "console"; level = "info";\n',
    'worker-normal.inc': `bind_socket = "127.0.0.1:${port}"; count = 1;\n`,
    'worker-controller.inc': 'enabled = false;\n',
    'worker-proxy.inc': 'enabled = false;\n',
    // They ask servers of their own, of which there are none here.
    'fuzzy_check.conf': 'enabled = false;\n',
    'phishing.conf': 'enabled = false;\n',
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(local, name), text);
  writeFileSync(join(dir, 'suffixes'), 'test\ncom\norg\nnet\n');
  for (const name of ['db', 'run', 'logs']) mkdirSync(join(dir, name));
  const places = [`LOCAL_CONFDIR=${dir}`, `DBDIR=${dir}/db`, `RUNDIR=${dir}/run`, `LOGDIR=${dir}/logs`];
  const url = `http://127.0.0.1:${port}`;
  const program = await startProgram({
    dir,
    command: [
      ...['rspamd', '-f', '-c', '/etc/rspamd/rspamd.conf'],
      ...(process.getuid?.() === 0 ? ['-i'] : []),
      ...places.flatMap((place) => ['--var', place]),
    ],
    ready: async () => (await fetch(`${url}/ping`)).ok,
  });
  return {
    log: program.log,
    judge: async ({ from, mailFrom, message }) => {
      const headers = { IP: from, From: mailFrom, Helo: 'client.test', Rcpt: 'b@dest.test' };
      const answer = await fetch(`${url}/checkv2`, {
        method: 'POST',
        headers,
        body: new Uint8Array(message),
      });
      const said = (await answer.json()) as { score: number; symbols: Record<string, { score: number }> };
      const symbols = Object.entries(said.symbols).map(([name, { score }]) => [name, score]);
      return { score: said.score, symbols: Object.fromEntries(symbols) };
    },
    stop: async () => {
      await program.stop();
      remove();
    },
  };
}
