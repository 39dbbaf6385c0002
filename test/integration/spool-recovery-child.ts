/** A start over the folder in argv, as spool-recovery.test.ts measures it: one line of JSON, then the end. */
import { Spool } from '../../node/spool/spool.ts';
import { due, silent } from '../unit/spool-fixtures.ts';

const began = performance.now();
const spool = await Spool.open({ dir: process.argv[2]!, log: silent });
const first = await due(spool, 200, Date.now());
const ms = performance.now() - began;
const order = first.map(({ receivedAt, did, site }) => ({ receivedAt, lane: `${did} ${site}` }));
console.log(JSON.stringify({ ms, residentMb: process.memoryUsage.rss() / 1e6, order }));
await spool.close();
