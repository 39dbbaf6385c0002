/**
 * Labels: a peer's verified and stored, ours asked for and sent to many.
 *
 * Options: --part verify|issue|query|fan-out (each may be given again), --labels N in the table that is asked (default
 * 1,000,000), --rounds N.
 */
import { parseArgs } from 'node:util';
import type { Row } from './compare.ts';
import { fanOut } from './labels/fan-out.ts';
import { issue } from './labels/issue.ts';
import { queries } from './labels/query.ts';
import { benchVerify } from './labels/verify.ts';

export async function bench(args: string[]): Promise<Row[]> {
  const { values } = parseArgs({
    args,
    options: {
      part: { type: 'string', multiple: true, default: ['verify', 'issue', 'query', 'fan-out'] },
      labels: { type: 'string', default: '1000000' },
      rounds: { type: 'string', default: '3' },
    },
  });
  const rounds = Number(values.rounds);
  const rows: Row[] = [];
  if (values.part.includes('verify')) rows.push(...(await benchVerify()));
  if (values.part.includes('issue')) rows.push(await issue(rounds));
  if (values.part.includes('query')) rows.push(...(await queries(rounds, Number(values.labels))));
  if (values.part.includes('fan-out')) rows.push(...(await fanOut(rounds)));
  return rows;
}
