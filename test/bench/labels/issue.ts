/** Labels issued: signed and on disk, many decisions at once; beside one commit for each. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../../appview/database.ts';
import { IssuedLabels } from '../../../node/labeler/issued-labels.ts';
import { nodeMigrations } from '../../../node/migrations.ts';
import { compare, type Row } from '../compare.ts';
import { cid, memberDid, src, uriOf, val } from './subjects.ts';

export async function issue(rounds: number): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-bench-labels-'));
  const db = openDatabase(join(folder, 'node.db'), nodeMigrations, { synchronous: 'FULL' });
  const key = await Secp256k1Keypair.create({ exportable: true });
  const issued = new IssuedLabels({ db, did: src, key, now: Date.now });
  let n = 0;
  const one = () => issued.append({ issue: [{ uri: uriOf(memberDid(7), n++), val, cid }], negate: [] });
  const perSecond = async (count: number, work: () => Promise<unknown>) => {
    const start = performance.now();
    await work();
    return (count * 1_000) / (performance.now() - start);
  };
  const together = () => perSecond(4_000, () => Promise.all(Array.from({ length: 4_000 }, one)));
  const alone = () =>
    perSecond(400, async () => {
      for (let i = 0; i < 400; i++) await one();
    });
  try {
    return await compare(
      'labels issued, signed and on disk / a commit each',
      'per second',
      together,
      alone,
      rounds,
    );
  } finally {
    db.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
