/** The two tables: every system in every cell, in turns, with what each round gave. */

import { fromPairs, type Row } from '../compare.ts';
import { bareOurs } from './bare.ts';
import { bareHaraka, haraka } from './haraka.ts';
import { ours, oursTwoSignatures } from './ours.ts';
import { barePostfix, postfix } from './postfix.ts';
import { type Ends, type Figures, round, sendLoad, TlsSink } from './round.ts';
import { SourceAndSink } from './smtp-source.ts';
import { Shared } from './surroundings.ts';
import { type Running, type System, senderDomain } from './system.ts';
import { verifySignatures } from './verify.ts';

export type Cell = { key: string; name: string; bytes: number; reuse: boolean; messages: number };

/** So many messages that a round of the slowest takes some 5 s. */
export const cells: Cell[] = [
  { key: '10-reused', name: '10 KB, reused', bytes: 10 * 1024, reuse: true, messages: 1500 },
  { key: '10-new', name: '10 KB, new', bytes: 10 * 1024, reuse: false, messages: 900 },
  { key: '100-reused', name: '100 KB, reused', bytes: 100 * 1024, reuse: true, messages: 900 },
  { key: '100-new', name: '100 KB, new', bytes: 100 * 1024, reuse: false, messages: 700 },
];

export type Plan = {
  tables: string[];
  cells: Cell[];
  /** Undefined: all. */
  systems?: string[] | undefined;
  rounds: number;
  /** Share of each cell's messages. */
  scale: number;
};

export type Measured = { cell: Cell; system: System; rounds: Figures[] }[];

const sessions = 30;
/**
 * Uncounted, for all systems alike and however short the rounds: caches, connections, and what a virtual
 * machine compiles. Daemons are compared, and ours runs at its pace after some 4,000 messages.
 */
const warmUp: Cell[] = [
  { ...cells[0]!, messages: 4000 },
  { ...cells[1]!, messages: 500 },
];
/** Without signatures and TLS a round of the same length takes more messages. */
const bareFactor = 3;
const tables: Record<1 | 2, System[]> = {
  1: [ours, oursTwoSignatures, postfix, haraka],
  2: [bareOurs, barePostfix, bareHaraka],
};

export async function measure(table: 1 | 2, plan: Plan): Promise<Measured> {
  const systems = tables[table].filter((one) => isThere(one, plan));
  const shared = await Shared.make();
  const running = new Map<System, Running>();
  const sink = table === 1 ? await TlsSink.start(shared.certificate) : await SourceAndSink.start(shared.dir);
  try {
    for (const system of systems) {
      running.set(system, await system.start(shared.for(system.key, sink.port)));
    }
    const factor = table === 1 ? 1 : bareFactor;
    for (const one of running.values()) {
      for (const cell of warmUp) await round(one, endsFor(sink, one, cell), cell.messages);
    }
    const measured: Measured = [];
    for (const cell of plan.cells) {
      const messages = Math.round(cell.messages * plan.scale * factor);
      const ends = (one: Running) => endsFor(sink, one, { ...cell, messages });
      measured.push(...(await measureCell({ ...cell, messages }, running, ends, plan.rounds)));
    }
    return measured;
  } finally {
    await Promise.all([...running.values()].map((one) => one.stop()));
    await sink.stop();
    shared.remove();
  }
}

function isThere(system: System, { systems }: Plan): boolean {
  if (systems && !systems.includes(system.key)) return false;
  const reason = system.missing();
  if (reason) console.log(`  ${system.name} left out: ${reason}`);
  return !reason;
}

function endsFor(sink: TlsSink | SourceAndSink, { port, auth, recipientDomain }: Running, cell: Cell): Ends {
  const { bytes, reuse, messages } = cell;
  const envelope = { from: `a@${senderDomain}`, to: `b@${recipientDomain}` };
  const load = { port, sessions, messages, bytes, reuse, ...envelope };
  return {
    exchange: () =>
      sink instanceof TlsSink
        ? sink.whileCounting(messages, () => sendLoad({ ...load, auth: auth! }))
        : sink.whileCounting(messages, () => sink.send(load)),
    verify: (records) => (sink instanceof TlsSink ? verifySignatures(sink.kept, records) : Promise.resolve()),
  };
}

/** Rounds in which another begins each time. */
async function measureCell(
  cell: Cell,
  running: Map<System, Running>,
  endsOf: (one: Running) => Ends,
  rounds: number,
): Promise<Measured> {
  const measured: Measured = [...running.keys()].map((system) => ({ cell, system, rounds: [] }));
  for (let i = 0; i < rounds; i += 1) {
    const order = measured.map((_, k) => measured[(k + i) % measured.length]!);
    for (const one of order) {
      const system = running.get(one.system)!;
      const figures = await round(system, endsOf(system), cell.messages);
      one.rounds.push(figures);
      console.log(`  ${cell.name}, ${one.system.name}: ${inWords(figures)}`);
    }
  }
  return measured;
}

function inWords(one: Figures): string {
  return [
    `${one.acceptedPerSecond.toFixed(0)} accepted/s, ${one.deliveredPerSecond.toFixed(0)} delivered/s`,
    `${one.cpuMsPerMessage.toFixed(2)} ms CPU a message`,
    `${one.rssMb.toFixed(0)} MB RSS, ${one.pssMb.toFixed(0)} PSS`,
  ].join(', ');
}

/** Ours beside each other system, cell by cell; memory and acceptance where it matters most. */
export function rowsOf(table: 1 | 2, measured: Measured): Row[] {
  const isOurs = ({ key }: System) => key.startsWith('ours');
  const rows: Row[] = [];
  for (const mine of measured.filter(({ system }) => isOurs(system))) {
    for (const other of measured.filter(({ cell, system }) => cell === mine.cell && !isOurs(system))) {
      const isMain = mine.system.key === 'ours' && other.system.key === 'postfix';
      for (const [what, unit, key] of isMain ? kinds : kinds.slice(0, 2)) {
        const pairs = mine.rounds.map((one, i): [number, number] => [one[key], other.rounds[i]![key]]);
        const title = `${table}: ${mine.cell.name}: ${mine.system.name} / ${other.system.name}: ${what}`;
        rows.push(fromPairs(title, unit, pairs));
      }
    }
  }
  return rows;
}

const kinds: [what: string, unit: string, key: keyof Figures][] = [
  ['end to end', 'per second', 'deliveredPerSecond'],
  ['CPU', 'ms a message', 'cpuMsPerMessage'],
  ['accepted', 'per second', 'acceptedPerSecond'],
  ['memory (RSS)', 'MB', 'rssMb'],
  ['memory (PSS)', 'MB', 'pssMb'],
];
