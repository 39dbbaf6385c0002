/**
 * `250` after the final dot is written only after the sync of the file that holds the message, as the kernel
 * saw it: strace records the calls of the running node, and this test reads the record.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import { needs } from '../peers.ts';
import { openRelayWorld, type RelayWorld, reef } from '../relay-world.ts';
import { until } from '../until.ts';

/** One call of the record. It began and ended where these lines stand. */
type Call = { name: string; text: string; began: number; ended: number };

type Sent = { marker: string; clientPort: number };

const skip = needs('strace');
const folder = mkdtempSync(join(tmpdir(), 'atmos-strace-'));
const record = join(folder, 'calls');
const calls = 'trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2';
/** Strings long enough for a page of the database with its header. */
const wrapper = ['strace', '-f', '-yy', '-s', '9000', '-e', calls, '-e', 'signal=none', '-o', record];
let world: RelayWorld;
let sent: { small: Sent[]; large: Sent[] };
let trace: Call[];

before(async () => {
  if (skip) return;
  world = await openRelayWorld({ wrapper });
  const send = (marker: string, bytes: number) => sendAndStay(world, marker, bytes);
  const all = await Promise.all([
    ...Array.from({ length: 12 }, (_, i) => send(`small-message-${i}-`, 2_000)),
    ...Array.from({ length: 3 }, (_, i) => send(`large-message-${i}-`, 400_000)),
  ]);
  sent = { small: all.slice(0, 12), large: all.slice(12) };
  // Nothing may be said to the clients any more, not even good-bye.
  process.kill(childOf(world.node.pid), 'SIGKILL');
  await until('strace is gone', () => !isAlive(world.node.pid));
  trace = readTrace(readFileSync(record, 'latin1'));
});

after(async () => {
  if (skip) return;
  await world.close();
  rmSync(folder, { recursive: true });
});

test('a small message is in the log of the database and synced before its 250', { skip }, () => {
  for (const { marker, clientPort } of sent.small) {
    const written = firstCall(/^pwrite/, 'spool.db-wal', marker);
    const synced = syncAfter(written, 'spool.db-wal');
    assert.ok(synced.ended < replyAfter(written, clientPort).began, `${marker} was answered before the sync`);
  }
});

test('a large one is in a synced file of a synced folder, and then in the database, before its 250', {
  skip,
}, () => {
  for (const { marker, clientPort } of sent.large) {
    const written = lastCall(/^p?write/, '/spool/', marker);
    const file = /<([^>]*)>/.exec(written.text)![1]!;
    const synced = syncAfter(written, file);
    const renamed = trace.find(
      ({ name, text, began }) => /^rename/.test(name) && text.includes(file) && began > synced.ended,
    );
    assert.ok(renamed, `${file} was not renamed after its sync`);
    const folderSynced = syncAfter(renamed, file.slice(0, file.lastIndexOf('/')));
    const row = trace.find(({ text, began }) => began > folderSynced.ended && text.includes('spool.db-wal>'));
    assert.ok(row, 'nothing was committed after the sync of the folder');
    const committed = syncAfter(row, 'spool.db-wal');
    assert.ok(committed.ended < replyAfter(written, clientPort).began, `${marker} was answered too early`);
  }
});

/** One message on a connection that stays open and says nothing after 250. */
function sendAndStay({ node, reefKey }: RelayWorld, marker: string, bytes: number): Promise<Sent> {
  const connection = new SMTPConnection({
    ...{ ...node.submission, requireTLS: true, tls: { rejectUnauthorized: false } },
  });
  // The node is killed in the end.
  connection.on('error', () => undefined);
  const message = `From: a@${reef.domain}\r\nSubject: x\r\n\r\n${`${marker.repeat(4)}\r\n`.repeat(bytes / marker.length / 4)}`;
  return new Promise((resolve, reject) => {
    connection.connect((error) => {
      if (error) return reject(error);
      connection.login({ credentials: { user: reef.did, pass: reefKey } }, (failed) => {
        if (failed) return reject(failed);
        const { localPort } = (connection as unknown as { _socket: { localPort: number } })._socket;
        connection.send({ from: `a@${reef.domain}`, to: 'b@dest.test' }, message, (refused) =>
          refused ? reject(refused) : resolve({ marker, clientPort: localPort }),
        );
      });
    });
  });
}

function matching(name: RegExp, path: string, marker: string): Call[] {
  const found = trace.filter(
    (call) => name.test(call.name) && call.text.includes(path) && call.text.includes(marker),
  );
  assert.ok(found.length > 0, `${marker} was never written to ${path}`);
  return found;
}

const firstCall = (...wanted: Parameters<typeof matching>) => matching(...wanted)[0]!;
const lastCall = (...wanted: Parameters<typeof matching>) => matching(...wanted).at(-1)!;

/** The first sync of that file that began after the call had ended. */
function syncAfter(call: Call, path: string): Call {
  const isSync = ({ name, text }: Call) => /^f(data)?sync$/.test(name) && text.includes(`${path}>`);
  const found = trace.find((one) => isSync(one) && one.began > call.ended);
  assert.ok(found, `no sync of ${path}`);
  return found;
}

/**
 * What was written to that client after the call. The server says nothing between 354 and 250, and the
 * client said nothing after: so it is the 250, and were that earlier, there would be none.
 */
function replyAfter(call: Call, clientPort: number): Call {
  const isReply = ({ name, text }: Call) =>
    /^(write|send)/.test(name) && text.includes(`->127.0.0.1:${clientPort}]`);
  const found = trace.find((one) => isReply(one) && one.began > call.began);
  assert.ok(found, `the client at ${clientPort} was answered before its message was written`);
  return found;
}

/** Puts together what strace had to interrupt: `fsync(3 <unfinished ...>` and `<... fsync resumed>`. */
function readTrace(text: string): Call[] {
  const found: Call[] = [];
  const open = new Map<string, Call>();
  for (const [at, line] of text.split('\n').entries()) {
    const [, thread, rest] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    if (!thread || !rest) continue;
    const resumed = rest.startsWith('<... ') && open.get(thread);
    if (resumed) {
      resumed.ended = at;
      open.delete(thread);
      continue;
    }
    const [, name] = /^(\w+)\(/.exec(rest) ?? [];
    if (!name) continue;
    const call = { name, text: rest, began: at, ended: at };
    if (rest.endsWith('<unfinished ...>')) open.set(thread, { ...call, ended: Number.MAX_SAFE_INTEGER });
    found.push(open.get(thread) ?? call);
  }
  return found;
}

function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
