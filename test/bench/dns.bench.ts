/**
 * The list server beside Debian's rbldnsd, on the same zone files: queries a second of one core, CPU a query,
 * what is lost at saturation, memory. Both of our paths: node's own sockets, and the native ones.
 *
 * Mix 1: 100,000 domains and 100,000 addresses, as many misses as hits, metrics on, the rate limit counting with
 * its threshold above the load. Mix 2: half of the queries with EDNS, half of those with a cookie, each from its
 * own source in 127.0.0.0/8, metrics on and the rate limit as it is by default.
 *
 * Options: --quick (one short round), --rounds N, --mix 1|2, --system dgram|native (both may be given again).
 */
import { parseArgs } from 'node:util';
import { fromPairs, type Row } from './compare.ts';
import type { Mix } from './dns/data.ts';
import { missingLoad } from './dns/load.ts';
import { type Measured, measure, type Turn } from './dns/rounds.ts';
import { oursDgram, oursNative, rbldnsd, type Server } from './dns/servers.ts';
import { stopAll } from './relay/children.ts';

export async function bench(args: string[]): Promise<Row[]> {
  const { mixes, rounds, scale, systems } = planOf(args);
  const reason = missingLoad() || rbldnsd.missing();
  if (reason) {
    console.log(`  left out: ${reason}`);
    return [];
  }
  const servers = [rbldnsd, oursDgram, oursNative].filter((one) => isWanted(one, systems));
  // An interrupted benchmark leaves nothing behind either.
  const interrupted = () => void stopAll().finally(() => process.exit(130));
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted);
  try {
    const rows: Row[] = [];
    for (const mix of mixes) {
      console.log(`  mix ${mix}`);
      rows.push(...rowsOf(mix, await measure({ mix, servers, rounds, scale })));
    }
    return rows;
  } finally {
    await stopAll();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
}

function planOf(args: string[]): { mixes: Mix[]; rounds: number; scale: number; systems: string[] } {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      mix: { type: 'string', multiple: true, default: ['1', '2'] },
      system: { type: 'string', multiple: true, default: ['dgram', 'native'] },
    },
  });
  return {
    mixes: ([1, 2] as const).filter((mix) => values.mix.includes(String(mix))),
    rounds: Number(values.rounds ?? (values.quick ? 1 : 5)),
    scale: values.quick ? 0.25 : 1,
    systems: values.system,
  };
}

function isWanted(server: Server, systems: string[]): boolean {
  if (server === rbldnsd) return true;
  if (!systems.includes(server.key)) return false;
  const reason = server.missing();
  if (reason) console.log(`  ${server.name} left out: ${reason}`);
  return !reason;
}

function rowsOf(mix: Mix, measured: Measured): Row[] {
  const theirs = measured.find(({ server }) => server === rbldnsd)!;
  return measured
    .filter((one) => one !== theirs)
    .flatMap(({ server, turns }) => {
      const pairs = (key: keyof Turn) =>
        turns.map((turn, index): [number, number] => [turn[key], theirs.turns[index]![key]]);
      const title = `mix ${mix}, ${server.key}`;
      const lost = turns.map(({ lostPercent }): [number, number] => [lostPercent, 0.1]);
      return [
        ...kinds.map(([what, unit, key]) => fromPairs(`${title} / rbldnsd: ${what}`, unit, pairs(key))),
        fromPairs(`${title}: lost at saturation / budget`, '%', lost),
      ];
    });
}

const kinds: [what: string, unit: string, key: keyof Turn][] = [
  ['saturated', 'queries/s', 'perSecond'],
  ['CPU', 'µs a query', 'cpuUsPerQuery'],
  ['with at most 0.1 % lost', 'queries/s', 'losslessPerSecond'],
  ['memory (RSS)', 'MB', 'rssMb'],
];
