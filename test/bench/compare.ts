/** Two ways to do one thing, in alternating rounds; medians, the ratio of each pair, and its spread. */

export type Row = {
  what: string;
  unit: string;
  ours: number;
  theirs: number;
  /** Median of ours ÷ theirs, pair by pair. */
  ratio: number;
  /** Smallest and largest ratio of a pair. */
  spread: [number, number];
};

/**
 * @param ours one round; returns the figure in `unit`
 * @param rounds after one round of each that is not counted
 */
export async function compare(
  what: string,
  unit: string,
  ours: () => Promise<number> | number,
  theirs: () => Promise<number> | number,
  rounds = 5,
): Promise<Row> {
  await ours();
  await theirs();
  const pairs: [number, number][] = [];
  for (let round = 0; round < rounds; round++) {
    // Who goes first changes, so that neither always meets the warmer machine.
    if (round % 2 === 0) {
      const a = await ours();
      pairs.push([a, await theirs()]);
    } else {
      const b = await theirs();
      pairs.push([await ours(), b]);
    }
  }
  return fromPairs(what, unit, pairs);
}

/** The row of figures that were measured elsewhere, pair by pair: ours, theirs. */
export function fromPairs(what: string, unit: string, pairs: [ours: number, theirs: number][]): Row {
  const ratios = pairs.map(([a, b]) => a / b).sort((a, b) => a - b);
  return {
    what,
    unit,
    ours: median(pairs.map(([a]) => a)),
    theirs: median(pairs.map(([, b]) => b)),
    ratio: median(ratios),
    spread: [ratios[0]!, ratios.at(-1)!],
  };
}

/** How many times a second `work` runs, for about `ms` milliseconds. */
export async function perSecond(work: () => Promise<unknown> | unknown, ms = 500): Promise<number> {
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < ms) {
    await work();
    count += 1;
  }
  return (count * 1000) / (performance.now() - start);
}

export function printTable(rows: Row[]): void {
  console.log('\n| What | Unit | Ours | Theirs | Ours ÷ theirs | Spread |\n|---|---|---|---|---|---|');
  for (const row of rows) {
    const [low, high] = row.spread;
    console.log(
      `| ${row.what} | ${row.unit} | ${short(row.ours)} | ${short(row.theirs)} | **${row.ratio.toFixed(2)}** | ${low.toFixed(2)}–${high.toFixed(2)} |`,
    );
  }
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function short(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}
