/**
 * The direction of imports, held by the machine.
 *
 * `node → appview → dnsbl`, all may use `lexicons`, nothing imports tests; inside `node`, the walls of
 * DESIGN.md; no circle between files anywhere. Type-only imports count like the others.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const root = join(import.meta.dirname, '..', '..');

/** Who may import whom, by top-level folder. */
const allowed: Record<string, string[]> = {
  lexicons: ['lexicons'],
  dnsbl: ['dnsbl', 'lexicons'],
  appview: ['appview', 'dnsbl', 'lexicons'],
  node: ['node', 'appview', 'dnsbl', 'lexicons'],
  test: ['test', 'node', 'appview', 'dnsbl', 'lexicons'],
};

/** Walls inside `node`: the first never imports the second. */
const walls: [from: string, to: string][] = [
  ['node/relay', 'node/delivery'],
  ['node/spool', 'node/delivery'],
  ['node/spool', 'node/relay'],
  ['node/spool', 'node/resolver.ts'],
  ['node/delivery', 'node/relay'],
  ['node/labeler', 'node/relay'],
  ['node/web', 'node/spool/worker.ts'],
];

type Graph = Map<string, string[]>;

/** Every fault as one line; empty when the house stands as designed. */
export function importFaults(graph: Graph): string[] {
  return [...directionFaults(graph), ...circles(graph)];
}

export function readGraph(folder: string = root): Graph {
  const files = globSync('{node,appview,dnsbl,lexicons,test}/**/*.ts', { cwd: folder }).map((file) =>
    file.replaceAll('\\', '/'),
  );
  return new Map(files.map((file) => [file, importsOf(folder, file)]));
}

function importsOf(folder: string, file: string): string[] {
  const text = readFileSync(join(folder, file), 'utf8');
  const targets = text.matchAll(/(?:from|import|import\(|new URL\()\s*'(\.{1,2}\/[^']+\.ts)'/g);
  return [...targets].map(([, target]) => relative(folder, join(folder, dirname(file), target!)));
}

function directionFaults(graph: Graph): string[] {
  const faults: string[] = [];
  for (const [file, targets] of graph) {
    const from = file.split('/')[0]!;
    for (const target of targets) {
      const to = target.split('/')[0]!;
      if (!allowed[from]?.includes(to)) faults.push(`${file} imports ${target}: ${from} never imports ${to}`);
      const wall = walls.find(([a, b]) => isIn(file, a) && isIn(target, b));
      if (wall) faults.push(`${file} imports ${target}: ${wall[0]} never imports ${wall[1]}`);
      if (!graph.has(target)) faults.push(`${file} imports ${target}, which is not there`);
    }
  }
  return faults;
}

function isIn(file: string, place: string): boolean {
  return file === place || file.startsWith(`${place}/`);
}

/** One line a circle, found by depth-first search; generated code is left out. */
function circles(graph: Graph): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      found.push(`circle: ${[...path.slice(at), file].join(' → ')}`);
      return;
    }
    if (done.has(file) || file.startsWith('lexicons/gen/')) return;
    path.push(file);
    for (const target of graph.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of graph.keys()) visit(file);
  return found;
}

if (import.meta.main) {
  const faults = importFaults(readGraph());
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) process.exit(1);
  console.log('imports: one direction, no circles');
}
