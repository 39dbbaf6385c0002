/**
 * Messages taken safely a second: the spool with 30 senders at once, beside the obvious alternative, one
 * file a message (write, fsync, rename, fsync of the folder), also with 30 at once.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { newQueueId, recipientId } from '../../node/spool/ids.ts';
import type { NewMessage } from '../../node/spool/message.ts';
import { Spool } from '../../node/spool/spool.ts';
import { compare, type Row } from './compare.ts';

const senders = 30;
const messages = 3_000;
const body = Buffer.alloc(10 * 1024, 'a message of ten kilobytes\r\n');

export async function bench(): Promise<Row[]> {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-bench-'));
  const spool = await Spool.open({ dir: join(dir, 'spool'), log: pino({ level: 'silent' }) });
  try {
    const ours = () => rate(() => accept(spool));
    const theirs = () => rate(() => oneFile(dir));
    return [await compare('10 KB messages on disk / one file each', 'per second', ours, theirs)];
  } finally {
    await spool.close();
    rmSync(dir, { recursive: true });
  }
}

async function rate(take: () => Promise<void>): Promise<number> {
  const start = performance.now();
  let left = messages;
  const sender = async () => {
    while (left-- > 0) await take();
  };
  await Promise.all(Array.from({ length: senders }, sender));
  return (messages * 1000) / (performance.now() - start);
}

async function accept(spool: Spool): Promise<void> {
  const accepted = await spool.accept(message());
  if (accepted.kind !== 'committed') throw new Error(`not committed: ${accepted.kind}`);
}

function message(): NewMessage {
  const queueId = newQueueId();
  const signatures = Buffer.alloc(1000, 'DKIM-Signature: of this recipient\r\n');
  const prefix = Buffer.alloc(500, 'X-Header: prepended\r\n');
  const envelope = { id: recipientId(queueId, 1), address: 'b@else.test', returnPath: 'b@pool.test' };
  return {
    ...{ queueId, kind: 'mail', did: 'did:plc:bench', domain: 'bench.test', via: 'smtp' },
    ...{ mailFrom: 'a@bench.test', receivedAt: Date.now(), expiresAt: Date.now() + 1e9, body, caps: [] },
    recipients: [{ ...envelope, signatures, signedAt: Date.now(), prefix }],
  };
}

let files = 0;
async function oneFile(dir: string): Promise<void> {
  const name = join(dir, `m${++files}`);
  const file = await open(`${name}.new`, 'w');
  await file.write(body);
  await file.sync();
  await file.close();
  await rename(`${name}.new`, name);
  const folder = await open(dir, 'r');
  await folder.sync();
  await folder.close();
}
