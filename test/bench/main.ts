/**
 * `npm run bench [-- NAME… [OPTION…]]`: each figure beside the obvious alternative, measured in the same run.
 *
 * Machines are noisy: the two sides alternate, and the ratio of each pair is what counts.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { printTable, type Row } from './compare.ts';

const folder = import.meta.dirname;
const known = readdirSync(folder)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.bench.ts'.length));
const words = process.argv.slice(2);
const firstOption = words.findIndex((word) => word.startsWith('--'));
const asked = firstOption < 0 ? words : words.slice(0, firstOption);
/** For the benchmarks that take any. */
const options = firstOption < 0 ? [] : words.slice(firstOption);
const unknown = asked.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(', ')}; there are: ${known.join(', ')}`);
  process.exit(64);
}

const rows: Row[] = [];
for (const name of asked.length > 0 ? asked : known) {
  console.log(`${name} …`);
  const { bench } = (await import(join(folder, `${name}.bench.ts`))) as {
    bench: (options: string[]) => Promise<Row[]>;
  };
  rows.push(...(await bench(options)));
}
printTable(rows);
process.exit(0);
