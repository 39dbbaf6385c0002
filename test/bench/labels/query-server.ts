/**
 * A process of the benchmark: a node.db with many labels, and queryLabels over it, ours and xrpc-server's route.
 *
 * Arguments: the folder, how many labels. Prints a line of JSON with both ports, and ends with its standard input.
 */
import { mkdirSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Secp256k1Keypair } from '@atproto/crypto';
import { type Database, openDatabase, transaction } from '../../../appview/database.ts';
import { com } from '../../../lexicons/index.ts';
import { IssuedLabels } from '../../../node/labeler/issued-labels.ts';
import { labelJson } from '../../../node/labeler/label-json.ts';
import { LabelQueries } from '../../../node/labeler/label-query.ts';
import { registerLabeler } from '../../../node/labeler/xrpc.ts';
import { nodeMigrations } from '../../../node/migrations.ts';
import { createHttp } from '../../../node/web/http.ts';
import { Xrpc } from '../../../node/web/xrpc.ts';
import { cid, labelsPerMember, memberDid, src, uriOf, val } from './subjects.ts';

const [folder, count] = [process.argv[2]!, Number(process.argv[3])];
mkdirSync(folder, { recursive: true });
const db = openDatabase(join(folder, 'node.db'), nodeMigrations, { synchronous: 'FULL' });
const key = await Secp256k1Keypair.create({ exportable: true });
const issued = new IssuedLabels({ db, did: src, key, now: Date.now });
fill(db, issued.keyId);

const log = { error: console.error };
const ports = [await serve(withOurs), await serve(withXrpcServer)];
console.log(JSON.stringify(ports));
process.stdin.on('end', () => process.exit(0)).resume();

async function serve(addMethods: (xrpc: Xrpc) => Promise<void>): Promise<number> {
  const xrpc = new Xrpc({ addMethods: () => undefined, log });
  await addMethods(xrpc);
  const http = createHttp({ xrpc, maxSubscribers: 100, count: () => undefined, log });
  await http.listen({ host: '127.0.0.1', port: 0 });
  return (http.server.address() as AddressInfo).port;
}

async function withOurs(xrpc: Xrpc): Promise<void> {
  await registerLabeler(xrpc, { db, issued, now: Date.now, count: () => undefined, log });
}

/** The obvious way: the same rows as values, which its route turns into JSON. */
async function withXrpcServer(xrpc: Xrpc): Promise<void> {
  const queries = new LabelQueries(db, issued);
  (await xrpc.open()).add(com.atproto.label.queryLabels.main, {
    handler: async ({ params: { uriPatterns, limit = 50, cursor } }) => {
      const page = await queries.page({ uriPatterns, limit, ...(cursor && { cursor }) }, Date.now());
      if (page.kind === 'bad-query') throw new Error(page.why);
      const rows = JSON.parse(`[${page.labels}]`) as { sig: { $bytes: string } }[];
      const labels = rows.map((row) => ({ ...row, sig: Buffer.from(row.sig.$bytes, 'base64') }));
      return {
        encoding: 'application/json',
        body: { labels: labels as never, ...(page.cursor && { cursor: page.cursor }) },
      };
    },
  });
}

/** Rows as IssuedLabels makes them, but for signatures, which nobody reads here; in order, because that is quick. */
function fill(into: Database.Database, keyId: number): void {
  const sig = Buffer.alloc(64, 0xa5);
  const insert = into.prepare(
    `INSERT INTO current_label (uri, seq, val, cid, exp, key, json)
     SELECT value ->> 0, value ->> 1, '${val}', '${cid}', ?, ${keyId}, value ->> 2 FROM json_each(?)`,
  );
  const inTwoWeeks = Date.now() + 14 * 86_400_000;
  const times = { cts: new Date().toISOString(), exp: new Date(inTwoWeeks).toISOString() };
  const dids = Array.from({ length: count / labelsPerMember }, (_, n) => memberDid(n)).sort();
  let seq = 0;
  for (let from = 0; from < dids.length; from += 400) {
    const uris = dids.slice(from, from + 400).flatMap((did) => {
      return Array.from({ length: labelsPerMember }, (_, n) => uriOf(did, n)).sort();
    });
    const rows = uris.map((uri) => {
      return [uri, ++seq, labelJson({ ver: 1, src, uri, cid, val, ...times, sig })];
    });
    transaction(into, () => insert.run([inTwoWeeks, JSON.stringify(rows)]));
  }
}
