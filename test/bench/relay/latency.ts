/**
 * Milliseconds from the final dot to 250 at 200 messages a second, whatever became of those before.
 *
 * "Theirs" is the budget. Each round says beside it how long the disk alone takes for a sync, just before:
 * what of the tail is the machine's.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromPairs, type Row } from '../compare.ts';
import { ours } from './ours.ts';
import { sendLoad, TlsSink } from './round.ts';
import { Shared } from './surroundings.ts';
import { senderDomain } from './system.ts';
import type { Plan } from './tables.ts';

const perSecond = 200;
const seconds = 20;
const warmUp = 2_000;
const budgetMs = 25;
const syncBytes = 16 * 1024;

export async function measureLatency({ rounds, scale }: Plan): Promise<Row[]> {
  const shared = await Shared.make();
  const sink = await TlsSink.start(shared.certificate);
  const running = await ours.start(shared.for(ours.key, sink.port));
  try {
    const messages = Math.round(perSecond * seconds * scale);
    const { port, auth, recipientDomain } = running;
    const load = { port, auth: auth!, messages, sessions: 30, bytes: 10 * 1024, reuse: true };
    const envelope = { from: `a@${senderDomain}`, to: `b@${recipientDomain}` };
    const pairs: [number, number][] = [];
    // As in the other tables: what a node is in its first seconds is not what it is for months.
    await sink.whileCounting(warmUp, () => sendLoad({ ...load, ...envelope, messages: warmUp }));
    for (let i = 0; i < rounds; i += 1) {
      const disk = await syncsOf(shared.dir);
      const { sent } = await sink.whileCounting(messages, () =>
        sendLoad({ ...load, ...envelope, perSecond }),
      );
      const { latenciesMs } = sent;
      console.log(`  final dot to 250 at ${perSecond}/s: ${inWords(latenciesMs)}`);
      console.log(`  a sync of the disk alone: ${inWords(disk)}`);
      pairs.push([at(latenciesMs, 0.99), budgetMs]);
    }
    return [fromPairs(`final dot to 250 at ${perSecond}/s, p99 / budget`, 'ms', pairs)];
  } finally {
    await running.stop();
    await sink.stop();
    shared.remove();
  }
}

/** Milliseconds of each: as much as a message of 10 KB, at the pace of the messages. */
async function syncsOf(dir: string): Promise<number[]> {
  const path = join(dir, 'syncs');
  const file = await open(path, 'w');
  const took: number[] = [];
  for (let i = 0; i < 2 * perSecond; i += 1) {
    await file.write(Buffer.alloc(syncBytes, i), 0, syncBytes, (i % 100) * syncBytes);
    const began = performance.now();
    await file.datasync();
    took.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 1000 / perSecond));
  }
  await file.close();
  await rm(path);
  return took;
}

function inWords(ms: number[]): string {
  const shares = [0.5, 0.9, 0.99, 0.999].map((share) => `p${share * 100} ${at(ms, share).toFixed(1)}`);
  return `${shares.join(', ')}, most ${at(ms, 1).toFixed(1)} ms`;
}

function at(ms: number[], share: number): number {
  return ms.toSorted((a, b) => a - b)[Math.floor((ms.length - 1) * share)]!;
}
