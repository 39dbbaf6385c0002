/**
 * The process whose disk spool-bad-disk.test.ts spoils. argv: folder. Each line in is one call, each line
 * out its result: `accept`, `due`, `ping`.
 */
import { createInterface } from 'node:readline';
import { Spool } from '../../node/spool/spool.ts';
import { due, mail, silent } from '../unit/spool-fixtures.ts';

const spool = await Spool.open({ dir: process.argv[2]!, log: silent });
console.log('open');
for await (const call of createInterface({ input: process.stdin })) void answer(call);
await spool.close();

async function answer(call: string): Promise<void> {
  if (call === 'accept') console.log(`accept ${(await spool.accept(mail({ receivedAt: Date.now() }))).kind}`);
  else if (call === 'due') console.log(`due ${(await due(spool, 100, Date.now() + 1000)).length}`);
  else console.log(call);
}
