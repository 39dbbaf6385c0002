/**
 * The list server with five million entries, every DID distinct: how long a load takes, what is resident, and what
 * a query a 200 µs loses or waits while all is loaded anew, or while single entries change.
 *
 * `atmos dns` on files as our export writes them, beside rbldnsd on the same. The single changes are made by
 * Zone.apply in a process like it (dns-scale/list-server.ts). Where nobody else has a figure, "theirs" is the
 * budget.
 *
 * Options: --quick (a tenth, one round), --entries N, --rounds N, --part load|reload|update (may be given again).
 */
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { needs } from '../peers.ts';
import { fromPairs, type Row } from './compare.ts';
import { addressOf, apex, type DataFiles, nameOf, writeData } from './dns-scale/data.ts';
import type { UpdateOrder, UpdateReport } from './dns-scale/list-server.ts';
import { missingPaced, Paced, type PacedReport } from './dns-scale/paced.ts';
import {
  peakMb,
  type Running,
  reload,
  resetPeak,
  residentMb,
  startOurs,
  startRbldnsd,
  stopServer,
} from './dns-scale/servers.ts';
import { messageOf, startProgram, stop, stopAll } from './relay/children.ts';

const rate = 5000;
const updatesPerSecond = 1000;
const updateSeconds = 10;
/** What the machine itself makes of it, just before. */
const calmSeconds = 6;
/** Until freed memory is back at the kernel, and what was compiled is. */
const settleMs = 3000;

const parts = { load: loads, reload: reloads, update: updates };
type Part = keyof typeof parts;
type Plan = { entries: number; rounds: number; parts: Part[] };
type Setup = Plan & { folder: string; files: DataFiles; next: DataFiles; queries: string };

export async function bench(args: string[]): Promise<Row[]> {
  const plan = planOf(args);
  const reason = missingPaced();
  if (reason) {
    console.log(`  left out: ${reason}`);
    return [];
  }
  const folder = mkdtempSync(join(tmpdir(), 'atmos-bench-dns-scale-'));
  const interrupted = () => void stopAll().finally(() => process.exit(130));
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted);
  try {
    const setup = prepare(plan, folder);
    const rows: Row[] = [];
    for (const part of plan.parts) rows.push(...(await parts[part](setup)));
    return rows;
  } finally {
    await stopAll();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    rmSync(folder, { recursive: true, force: true });
  }
}

function planOf(args: string[]): Plan {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: 'boolean', default: false },
      entries: { type: 'string' },
      rounds: { type: 'string' },
      part: { type: 'string', multiple: true, default: Object.keys(parts) },
    },
  });
  return {
    parts: (Object.keys(parts) as Part[]).filter((part) => values.part.includes(part)),
    entries: Number(values.entries ?? (values.quick ? 500_000 : 5_000_000)),
    rounds: Number(values.rounds ?? (values.quick ? 1 : 3)),
  };
}

function prepare(plan: Plan, folder: string): Setup {
  // rbldnsd reads as another user.
  chmodSync(folder, 0o755);
  const later = join(folder, 'later');
  mkdirSync(later);
  const files = writeData(folder, plan.entries);
  const next = writeData(later, plan.entries, 1);
  const queries = join(folder, 'queries.txt');
  writeFileSync(queries, queriesOf(plan.entries));
  return { ...plan, folder, files, next, queries };
}

/** Listed and not listed alike, names and addresses; none of those that updates take away. */
function queriesOf(entries: number): string {
  const half = entries / 2;
  const lines: string[] = [];
  for (let index = 1; index < 20_000; index++) {
    const known = (index * 104_729 + 1) % half;
    const type = index % 4 === 0 ? 'TXT' : 'A';
    lines.push(`${nameOf(known)}.dom.${apex} ${type} 0`);
    lines.push(`absent-${nameOf(known)}.dom.${apex} ${type} 3`);
    lines.push(`${reversed(addressOf(2 * half + index))}.ip.${apex} A 3`);
  }
  return `${lines.join('\n')}\n`;
}

function reversed(address: string): string {
  return address.split('.').reverse().join('.');
}

async function loads({ files, folder, rounds, entries }: Setup): Promise<Row[]> {
  const without = needs('rbldnsd');
  if (without) console.log(`  rbldnsd left out: ${without}`);
  const seconds: [number, number][] = [];
  const resident: [number, number][] = [];
  const known = nameOf(entries / 2 - 1);
  for (let round = 0; round < rounds; round++) {
    const ours = await measured(startOurs(files, folder, known));
    const theirs = without ? undefined : await measured(startRbldnsd(files, folder, known));
    console.log(`  load: ours ${said(ours)}${theirs ? `, rbldnsd ${said(theirs)}` : ''}`);
    seconds.push([ours.seconds, theirs?.seconds ?? Number.NaN]);
    resident.push([ours.mb, theirs?.mb ?? Number.NaN]);
  }
  const count = entries.toLocaleString('en');
  const budgets = [
    fromPairs(`${count} entries: start to answer / budget`, 's', beside(seconds, 4)),
    fromPairs('… resident / budget', 'MB', beside(resident, 450)),
  ];
  if (without) return budgets;
  return [
    ...budgets,
    fromPairs('… start to answer: ours / rbldnsd', 's', seconds),
    fromPairs('… resident: ours / rbldnsd', 'MB', resident),
  ];
}

async function measured(starting: Promise<Running>): Promise<{ seconds: number; mb: number }> {
  const server = await starting;
  try {
    await sleep(settleMs);
    return { seconds: server.seconds, mb: residentMb(server.pid) };
  } finally {
    await stopServer(server);
  }
}

const said = ({ seconds, mb }: { seconds: number; mb: number }) =>
  `${seconds.toFixed(2)} s, ${mb.toFixed(0)} MB`;

/** Several in one process, so that what an earlier one left shows. */
async function reloads({ files, next, folder, queries, rounds, entries }: Setup): Promise<Row[]> {
  const server = await startOurs(files, folder, nameOf(entries / 2 - 1));
  const load = await Paced.start(server.port, queries);
  const peaks: number[] = [];
  const reports: PacedReport[] = [];
  const before: PacedReport[] = [];
  const times: number[] = [];
  try {
    await load.run(2, rate);
    for (let round = 0; round < rounds; round++) {
      exchange(files, next);
      await sleep(settleMs);
      before.push(await load.run(calmSeconds, rate));
      resetPeak(server.pid);
      const running = load.run(entries > 1_000_000 ? 15 : 6, rate);
      await sleep(1000);
      times.push(await reload(server));
      reports.push(await running);
      peaks.push(peakMb(server.pid));
      console.log(
        `  reload: ${times.at(-1)!.toFixed(2)} s, peak ${peaks.at(-1)!.toFixed(0)} MB, then ${residentMb(server.pid).toFixed(0)} MB; ${saidOf(reports.at(-1)!)}; worst without ${before.at(-1)!.worstMs} ms`,
      );
    }
  } finally {
    await load.stop();
    await stopServer(server);
  }
  return [
    fromPairs('reload under 5,000 queries/s: peak resident / budget', 'MB', beside(peaks, 900)),
    ...rowsOf(reports),
    fromPairs(
      '… worst answer: while loading / without',
      'ms',
      reports.map(({ worstMs }, index) => [worstMs, before[index]!.worstMs]),
    ),
  ];
}

/** What was read goes aside, and the other files take its names: as an export does. */
function exchange(files: DataFiles, next: DataFiles): void {
  for (const kind of ['dom', 'ip'] as const) {
    renameSync(files[kind], `${files[kind]}.before`);
    renameSync(next[kind], files[kind]);
    renameSync(`${files[kind]}.before`, next[kind]);
  }
}

async function updates({ files, queries, rounds, entries }: Setup): Promise<Row[]> {
  const child = startProgram('../dns-scale/list-server.ts', [JSON.stringify({ ...files, entries })]);
  const port = await messageOf<number>(child, 120_000, 'our list server');
  const load = await Paced.start(port, queries);
  const reports: PacedReport[] = [];
  const changes: UpdateReport[] = [];
  try {
    await load.run(2, rate);
    // One round: a second would make the changes that are there already.
    for (let round = 0; round < Math.min(rounds, 1); round++) {
      const running = load.run(updateSeconds + 2, rate);
      await sleep(1000);
      const report = messageOf<UpdateReport>(child, updateSeconds * 5000, 'our list server');
      child.send({ seconds: updateSeconds, perSecond: updatesPerSecond } satisfies UpdateOrder);
      changes.push(await report);
      reports.push(await running);
      console.log(`  updates: ${JSON.stringify(changes.at(-1))}; ${saidOf(reports.at(-1)!)}`);
    }
  } finally {
    await load.stop();
    await stop(child);
  }
  const visible = changes.map(({ worstVisibleMs }) => worstVisibleMs);
  return [
    fromPairs('1,000 changes/s: until a query sees one, at most / budget', 'ms', beside(visible, 50)),
    ...rowsOf(reports),
  ];
}

function rowsOf(reports: PacedReport[]): Row[] {
  const lost = reports.map((report) => report.lost + report.wrong);
  const worst = reports.map(({ worstMs }) => worstMs);
  return [
    fromPairs(
      '… queries lost or wrong / of',
      'queries',
      reports.map(({ sent }, index) => [lost[index]!, sent]),
    ),
    fromPairs('… worst answer / budget', 'ms', beside(worst, 20)),
  ];
}

function saidOf({ sent, lost, wrong, p50Ms, p99Ms, p999Ms, worstMs, latestMs }: PacedReport): string {
  return `${sent} sent, ${lost} lost, ${wrong} wrong; ms p50 ${p50Ms} p99 ${p99Ms} p99.9 ${p999Ms} worst ${worstMs} (generator late ${latestMs})`;
}

function beside(values: readonly (number | [number, number])[], budget: number): [number, number][] {
  return values.map((value) => [Array.isArray(value) ? value[0] : value, budget]);
}
