/** queryLabels at a million labels over 20 connections, without a cache of answers; beside xrpc-server's route. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromPairs, type Row } from '../compare.ts';
import { cpuMsOf } from '../processes.ts';
import { type Load, load } from './http-load.ts';
import { labelsPerMember, memberDid, uriOf } from './subjects.ts';

const connections = 20;
const roundMs = 2_000;

type Measured = Load & { cpuMicros: number };
type Question = { name: string; pattern: (did: string) => string; labels: number };

const questions: Question[] = [
  { name: 'narrow: one random URI', pattern: (did) => uriOf(did, any(labelsPerMember)), labels: 1 },
  { name: `wide: a prefix, ${labelsPerMember} labels`, pattern: (did) => `at://${did}/*`, labels: 50 },
];

/** @param labels in the table, a multiple of 50 */
export async function queries(rounds: number, labels: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-bench-labels-'));
  const server = spawn(
    process.execPath,
    [join(import.meta.dirname, 'query-server.ts'), folder, String(labels)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  try {
    const [line] = (await once(server.stdout, 'data')) as [Buffer];
    const ports = JSON.parse(String(line)) as [ours: number, theirs: number];
    const rows: Row[] = [];
    for (const question of questions) rows.push(...(await ask(question, ports, rounds, labels, server.pid!)));
    return rows;
  } finally {
    server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function ask(
  { name, pattern, labels }: Question,
  ports: [number, number],
  rounds: number,
  total: number,
  pid: number,
): Promise<Row[]> {
  const members = total / labelsPerMember;
  const once = async (port: number): Promise<Measured> => {
    const before = cpuMsOf([pid]);
    const seen = await load(port, {
      ...{ connections, ms: roundMs },
      pathOf: () => pathOf(pattern(memberDid(any(members)))),
      check: (body) => {
        const { labels: found } = JSON.parse(body) as { labels: unknown[] };
        if (found.length !== labels) throw new Error(`${found.length} labels, not ${labels}`);
      },
    });
    return { ...seen, cpuMicros: ((cpuMsOf([pid]) - before) * 1_000) / seen.requests };
  };
  const pairs: [Measured, Measured][] = [];
  for (let round = 0; round <= rounds; round++) {
    const pair: [Measured, Measured] = [await once(ports[0]), await once(ports[1])];
    if (round > 0) pairs.push(pair);
  }
  const of = (figure: keyof Measured) =>
    pairs.map(([ours, theirs]): [number, number] => [ours[figure], theirs[figure]]);
  return [
    fromPairs(
      `queryLabels, ${total.toLocaleString('en')} labels, ${name} / xrpc-server's route`,
      'per second',
      of('perSecond'),
    ),
    fromPairs('… p99', 'ms', of('p99Ms')),
    fromPairs('… CPU of the server', 'µs an answer', of('cpuMicros')),
  ];
}

function pathOf(pattern: string): string {
  return `/xrpc/com.atproto.label.queryLabels?uriPatterns=${encodeURIComponent(pattern)}`;
}

function any(below: number): number {
  return Math.floor(Math.random() * below);
}
