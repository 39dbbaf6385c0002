/**
 * A process of the benchmark: the labels of one log to many subscribers, by our stream or by xrpc-server's way.
 *
 * The log is the real one, but in memory and with a signature that costs nothing: what signing and the disk allow is
 * another figure (issue.ts).
 *
 * Prints its port, then does what it is told on standard input, one line each: `issue N A_SECOND` appends N labels
 * one by one, each in a frame of its own; 0 a second: as fast as they go.
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDatabase } from '../../../appview/database.ts';
import { com } from '../../../lexicons/index.ts';
import { IssuedLabels } from '../../../node/labeler/issued-labels.ts';
import { registerLabeler } from '../../../node/labeler/xrpc.ts';
import { nodeMigrations } from '../../../node/migrations.ts';
import { createHttp } from '../../../node/web/http.ts';
import { Xrpc } from '../../../node/web/xrpc.ts';
import { cid, memberDid, src, uriOf, val } from './subjects.ts';

const lexicons = join(import.meta.dirname, '../../../lexicons/com/atproto/label');
const way = process.argv[2]!;
const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
const signature = new Uint8Array(64).fill(0xa5);
const key = { jwtAlg: 'ES256K', did: () => 'did:key:zBench', sign: async () => signature };
const issued = new IssuedLabels({ db, did: src, key, now: Date.now });
const log = { error: console.error };
const xrpc = new Xrpc({ addMethods: () => undefined, log });
if (way === 'ours') await registerLabeler(xrpc, { db, issued, now: Date.now, count: () => undefined, log });
else await streamMethod();
const http = createHttp({ xrpc, maxSubscribers: 1_000, count: () => undefined, log });
await http.listen({ host: '127.0.0.1', port: 0 });
console.log((http.server.address() as AddressInfo).port);
for await (const line of createInterface(process.stdin)) {
  const [, count, aSecond] = line.split(' ').map(Number);
  await issue(count!, aSecond!);
}
process.exit(0);

/** The obvious way: values to xrpc-server, which encodes a frame for each subscriber. */
async function streamMethod(): Promise<void> {
  const server = await xrpc.open();
  for (const name of ['defs', 'subscribeLabels'])
    server.addLexicon(JSON.parse(readFileSync(join(lexicons, `${name}.json`), 'utf8')));
  server.streamMethod(com.atproto.label.subscribeLabels.$nsid, async function* ({ params, signal }) {
    const cursor = (params as { cursor?: number }).cursor ?? issued.newest;
    for await (const frames of issued.follow(cursor, signal))
      for (const { seq, labels } of frames) yield { $type: '#labels', seq, labels };
  });
}

/** In small groups, as members are looked at; at most some hundred wait for their commit. */
async function issue(count: number, aSecond: number): Promise<void> {
  const did = memberDid(1);
  const atOnce = aSecond === 0 ? 250 : Math.ceil(aSecond / 200);
  const start = performance.now();
  const waiting: Promise<unknown>[] = [];
  for (let n = 0; n < count; n++) {
    if (n % atOnce === 0 && aSecond > 0)
      await sleep(Math.max(0, start + (n / aSecond) * 1_000 - performance.now()));
    waiting.push(issued.append({ issue: [{ uri: uriOf(did, n), val, cid }], negate: [] }));
    if (waiting.length >= 750) await waiting.shift();
  }
  await Promise.all(waiting);
}
