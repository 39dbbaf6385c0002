/**
 * The relay beside Postfix and Haraka: messages a second, CPU and memory, what it costs to be safe.
 *
 * Table 1: a load and a sink of ours with AUTH and STARTTLS, two rsa-sha256 signatures for the others, two
 * and three for us. Table 2: `smtp-source` and `smtp-sink`, no AUTH, TLS or signatures. Both: 10 and 100 KB,
 * 30 sessions, connections reused and new for each message; systems take turns. Then the time from the
 * final dot to 250 at 200 messages a second. Each round asserts that what arrived is what was sent.
 *
 * Options: --quick (one short round), --table 1|2|latency, --cell 10-reused|10-new|100-reused|100-new,
 * --system ours|ours2|postfix|haraka (each may be given again), --rounds N.
 */
import { parseArgs } from 'node:util';
import type { Row } from './compare.ts';
import { stopAll } from './relay/children.ts';
import { missingEnds } from './relay/ends.ts';
import { measureLatency } from './relay/latency.ts';
import { type Cell, cells, measure, type Plan, rowsOf } from './relay/tables.ts';

export async function bench(args: string[]): Promise<Row[]> {
  const plan = planOf(args);
  // An interrupted benchmark leaves nothing behind either.
  const interrupted = () => void stopAll().finally(() => process.exit(130));
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted);
  try {
    const rows: Row[] = [];
    const tables = plan.tables.filter(isThere);
    for (const table of [1, 2] as const) {
      if (tables.includes(String(table))) rows.push(...rowsOf(table, await measure(table, plan)));
    }
    if (tables.includes('latency')) rows.push(...(await measureLatency(plan)));
    return rows;
  } finally {
    await stopAll();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
}

/** Table 2 has ends of Postfix's. */
function isThere(table: string): boolean {
  const reason = table !== '2' && missingEnds();
  if (reason) console.log(`  table ${table} left out: ${reason}`);
  return !reason;
}

function planOf(args: string[]): Plan {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: 'boolean', default: false },
      table: { type: 'string', multiple: true, default: ['1', '2', 'latency'] },
      cell: { type: 'string', multiple: true, default: cells.map(({ key }) => key) },
      system: { type: 'string', multiple: true },
      rounds: { type: 'string' },
    },
  });
  const wanted: Cell[] = cells.filter(({ key }) => values.cell.includes(key));
  return {
    tables: values.table,
    cells: wanted,
    systems: values.system,
    rounds: Number(values.rounds ?? (values.quick ? 1 : 3)),
    scale: values.quick ? 0.4 : 1,
  };
}
