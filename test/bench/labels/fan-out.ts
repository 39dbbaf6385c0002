/** Fan-out, one label a frame, to ten subscribers that decode, one of them stalled; beside xrpc-server's streams. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fromPairs, type Row } from '../compare.ts';
import { cpuMsOf } from '../processes.ts';

const readers = 9;
const labels = 20_000;
/** Deliveries asked for, of the latency. */
const pace = 60_000;

type Seen = { perSecond: number; p99Ms: number; cpuMicros: number };

export async function fanOut(rounds: number): Promise<Row[]> {
  const worlds = await Promise.all(['ours', 'theirs'].map(openWorld));
  const pairs: { fast: [Seen, Seen][]; paced: [Seen, Seen][] } = { fast: [], paced: [] };
  try {
    for (let round = 0; round <= rounds; round++) {
      const fast = await inTurn(worlds, (world) => world.round(labels, 0));
      const paced = await inTurn(worlds, (world) => world.round(labels, Math.ceil(pace / readers)));
      if (round === 0) continue;
      pairs.fast.push(fast);
      pairs.paced.push(paced);
    }
  } finally {
    for (const world of worlds) world.stop();
  }
  const of = (seen: [Seen, Seen][], figure: keyof Seen) =>
    seen.map(([ours, theirs]): [number, number] => [ours[figure], theirs[figure]]);
  const what = `labels to ${readers} subscribers beside a stalled one`;
  return [
    fromPairs(`${what} / xrpc-server: as fast as they go`, 'deliveries/s', of(pairs.fast, 'perSecond')),
    fromPairs('… at 60,000 deliveries/s asked', 'deliveries/s', of(pairs.paced, 'perSecond')),
    fromPairs('… CPU of the labeler', 'µs a delivery', of(pairs.paced, 'cpuMicros')),
    fromPairs('… from the label to its decoded frame, p99', 'ms', of(pairs.paced, 'p99Ms')),
  ];
}

async function inTurn([ours, theirs]: World[], work: (world: World) => Promise<Seen>): Promise<[Seen, Seen]> {
  const first = await work(ours!);
  return [first, await work(theirs!)];
}

type World = { round(count: number, aSecond: number): Promise<Seen>; stop(): void };

async function openWorld(way: string): Promise<World> {
  const server = start('fan-out-server.ts', way);
  const port = await server.line();
  const subscribers = start('subscribers.ts', port, String(readers), 'live');
  await subscribers.line();
  return {
    async round(count, aSecond) {
      subscribers.tell(String(count));
      await subscribers.line();
      const before = cpuMsOf([server.child.pid!]);
      server.tell(`issue ${count} ${aSecond}`);
      const seen = JSON.parse(await subscribers.line()) as Omit<Seen, 'cpuMicros'>;
      const cpuMs = cpuMsOf([server.child.pid!]) - before;
      return { ...seen, cpuMicros: (cpuMs * 1_000) / (count * readers) };
    },
    stop() {
      for (const { child } of [subscribers, server]) child.kill();
    },
  };
}

type Started = { child: ChildProcess; tell(line: string): void; line(): Promise<string> };

function start(file: string, ...args: string[]): Started {
  const stdio: ['pipe', 'pipe', 'inherit'] = ['pipe', 'pipe', 'inherit'];
  const child = spawn(process.execPath, [join(import.meta.dirname, file), ...args], { stdio });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const ended = once(child, 'exit').then(([code]) => Promise.reject(new Error(`${file} ended with ${code}`)));
  ended.catch(() => undefined);
  return {
    child,
    tell: (line) => void child.stdin.write(`${line}\n`),
    line: async () => (await Promise.race([lines.next(), ended])).value as string,
  };
}
