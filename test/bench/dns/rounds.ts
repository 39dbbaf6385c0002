/**
 * Rounds in which the servers take turns, each with a core to itself and the load on another.
 *
 * A turn saturates the server first (closed loop: always so many unanswered queries that it never waits), and
 * then looks for the highest rate of an open loop at which at most 0.1 % are lost. A load that is answered wrong
 * ends the benchmark.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { rssMbOf } from '../processes.ts';
import { inTheEnd } from '../relay/children.ts';
import { type Mix, writeQueries, writeZoneFiles } from './data.ts';
import { Load, type LoadReport } from './load.ts';
import { cpuUsOf, pin, type RunningServer, type Server } from './servers.ts';

export type Turn = {
  /** Answers, in the closed loop. */
  perSecond: number;
  cpuUsPerQuery: number;
  /** Share of its core that the server had: below 95 % it was not it that was measured. */
  busy: number;
  lostPercent: number;
  /** The highest rate of the open loop at which at most 0.1 % were lost; 0: there was none. */
  losslessPerSecond: number;
  rssMb: number;
};

export type Plan = { mix: Mix; servers: Server[]; rounds: number; scale: number };

export type Measured = { server: Server; turns: Turn[] }[];

const core = { load: 0, server: 1 };
const entries = 100_000;
const queries = 200_000;
/** On each of four sockets; together fewer than wait in the queue that rbldnsd asks of the kernel (170 packets). */
const window = 32;
const warmUpSeconds = 3;
const closedSeconds = 1.5;
const openSeconds = 0.3;
const openSteps = 6;
const maxLostPercent = 0.1;

type Side = { server: Server; running: RunningServer; load: Load; turns: Turn[] };

export async function measure({ mix, servers, rounds, scale }: Plan): Promise<Measured> {
  if (availableParallelism() < 2) throw new Error('the server and the load need a core each');
  const dir = mkdtempSync(join(tmpdir(), 'atmos-bench-dns-'));
  // rbldnsd runs as another user.
  chmodSync(dir, 0o755);
  const remove = inTheEnd(() => rmSync(dir, { recursive: true, force: true }));
  const sides: Side[] = [];
  try {
    writeZoneFiles(dir, entries);
    writeQueries(join(dir, 'queries'), mix, entries, queries);
    for (const server of servers) sides.push(await started(server, dir, mix));
    for (const { load } of sides) assertRight(await load.closed(warmUpSeconds * scale, window));
    for (let round = 0; round < rounds; round++) {
      for (const index of sides.keys()) await takeTurn(sides[(index + round) % sides.length]!, scale);
    }
    return sides;
  } finally {
    await Promise.all(sides.map(({ running, load }) => Promise.all([load.stop(), running.stop()])));
    remove();
  }
}

async function started(server: Server, dir: string, mix: Mix): Promise<Side> {
  const running = await server.start(dir, mix);
  await pin(running, core.server);
  const load = await Load.start({
    ...{ port: running.port, queriesFile: join(dir, 'queries'), isSpread: mix === 2, core: core.load },
  });
  return { server, running, load, turns: [] };
}

async function takeTurn({ server, running, load, turns }: Side, scale: number): Promise<void> {
  const cpuBefore = cpuUsOf(running);
  const report = await load.closed(closedSeconds * scale, window);
  const cpuUs = cpuUsOf(running) - cpuBefore;
  const perSecond = assertRight(report).answered / report.seconds;
  const turn = {
    ...{ perSecond, cpuUsPerQuery: cpuUs / report.sent, busy: cpuUs / 1e6 / report.seconds },
    lostPercent: lostPercent(report),
    losslessPerSecond: await losslessRate(load, perSecond, scale),
    rssMb: rssMbOf([running.pid]),
  };
  turns.push(turn);
  console.log(`  ${server.name}: ${inWords(turn)}`);
}

/** Halves the space, by factors, between a rate that lost next to nothing and one that lost too much. */
async function losslessRate(load: Load, saturated: number, scale: number): Promise<number> {
  let best = 0;
  let [low, high] = [0.1 * saturated, 1.4 * saturated];
  for (let step = 0; step < openSteps; step++) {
    const rate = Math.sqrt(low * high);
    const report = assertRight(await load.open(openSeconds * scale, rate));
    const offered = report.sent / report.seconds;
    if (lostPercent(report) > maxLostPercent) high = rate;
    else {
      low = rate;
      best = Math.max(best, offered);
    }
  }
  return best;
}

function lostPercent({ sent, lost }: LoadReport): number {
  return (100 * lost) / sent;
}

/** @throws when an answer was wrong, or none came */
function assertRight(report: LoadReport): LoadReport {
  if (report.wrong > 0 || report.answered === 0) throw new Error(`the load says ${JSON.stringify(report)}`);
  return report;
}

function inWords(turn: Turn): string {
  return [
    `${Math.round(turn.perSecond)} queries/s`,
    `${turn.cpuUsPerQuery.toFixed(2)} µs CPU a query`,
    `${(100 * turn.busy).toFixed(0)} % of its core`,
    `${turn.lostPercent.toFixed(3)} % lost`,
    `${Math.round(turn.losslessPerSecond)}/s with at most ${maxLostPercent} %`,
    `${turn.rssMb.toFixed(0)} MB RSS`,
  ].join(', ');
}
