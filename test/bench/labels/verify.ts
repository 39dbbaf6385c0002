/**
 * A peer's labels, verified and stored in order, beside the same with @atproto/crypto's verify (noble) and with
 * node:crypto: frames of one label each through the consumer into appview.db and ledger.db on disk, as in the node.
 *
 * Counted is CPU time of all threads, so that "a second of one core" does not depend on who else runs here; the
 * second row is the main loop's share of it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as noble from '@atproto/crypto';
import { openDatabase } from '../../../appview/database.ts';
import { nodeVerifier } from '../../../appview/identity/curves.ts';
import { pointOf } from '../../../appview/identity/signature.ts';
import { decodeFrame, labelBytes, type SignedLabel } from '../../../appview/labels/codec.ts';
import { LabelConsumer } from '../../../appview/labels/consumer.ts';
import { defaultLimits } from '../../../appview/labels/limits.ts';
import { LabelStore } from '../../../appview/labels/store.ts';
import { type LabelVerifier, VerifyThreads } from '../../../appview/labels/verify-threads.ts';
import { Ledger } from '../../../appview/listing/ledger.ts';
import { appviewMigrations, ledgerMigrations } from '../../../appview/migrations.ts';
import { iso, issuer, june, quiet, uriOf } from '../../unit/labels-fixtures.ts';
import { encodeLabelsFrame } from '../../unit/labels-frame.ts';
import { compare, type Row } from '../compare.ts';

const labelsPerRound = 2_000;
/** The slow ones are measured with fewer. */
const labelsOfSlow = 400;
const rounds = 3;

type Issuer = Awaited<ReturnType<typeof issuer>>;
type Bench = { peer: Issuer; frames: Uint8Array[] };

export async function benchVerify(): Promise<Row[]> {
  const peer = await issuer();
  const frames: Uint8Array[] = [];
  for (let n = 0; n < labelsPerRound; n++) {
    const fields = { uri: uriOf(`host${n}.example.test`), cts: iso(june + n), exp: iso(june + 9e9) };
    frames.push(encodeLabelsFrame(n + 1, [await peer.sign(fields)]));
  }
  const bench = { peer, frames };
  const slow = { peer, frames: frames.slice(0, labelsOfSlow) };
  const threads = new VerifyThreads({ threads: 1 });
  const [verifyNoble, verifyNode] = [oneByOne(byNoble), oneByOne(byNode(peer.didKey))];
  const what = 'labels verified and stored, per second of one core';
  const rows = [
    await compare(
      `${what} / noble`,
      'labels',
      () => cpu(bench, threads),
      () => cpu(slow, verifyNoble),
      rounds,
    ),
    await compare(
      `${what} / node:crypto`,
      'labels',
      () => cpu(bench, threads),
      () => cpu(slow, verifyNode),
      rounds,
    ),
    await compare(
      'the same, per second of the main loop / on one thread',
      'labels',
      () => cpu(bench, threads, process.threadCpuUsage),
      () => cpu(bench, new VerifyThreads({ threads: 0 }), process.threadCpuUsage),
      rounds,
    ),
  ];
  await threads.close();
  return rows;
}

type Meter = (since?: NodeJS.CpuUsage) => NodeJS.CpuUsage;

/** Labels a second of CPU time. @throws unless each was stored, in order, as it was signed */
async function cpu({ peer, frames }: Bench, verifier: LabelVerifier, meter: Meter = process.cpuUsage) {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-bench-labels-'));
  const db = openDatabase(join(folder, 'appview.db'), appviewMigrations, { synchronous: 'NORMAL' });
  const ledgerDb = openDatabase(join(folder, 'ledger.db'), ledgerMigrations, { synchronous: 'FULL' });
  const ledger = new Ledger({ db: ledgerDb, now: Date.now });
  const ignored = () => undefined;
  const store = new LabelStore({
    db,
    now: Date.now,
    count: ignored,
    witness: (applied) => ledger.observe(applied),
  });
  const stored = Promise.withResolvers<void>();
  const order: string[] = [];
  store.onChange((applied) => {
    for (const { label } of applied) order.push(label.uri);
    if (order.length >= frames.length) stored.resolve();
  });
  const consumer = new LabelConsumer({
    ...{ src: peer.did, store, verifier, log: quiet, count: ignored, now: Date.now },
    limits: { ...defaultLimits, labelsPerSecond: Number.MAX_SAFE_INTEGER },
    identities: { forget: ignored, resolve: async () => ({ labelKey: peer.didKey }) },
    source: {
      follow: async (_cursor, onFrame, signal) => {
        for (const bytes of frames) await onFrame(decodeFrame(bytes)!);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    },
  });
  const before = meter();
  consumer.start();
  await stored.promise;
  const { user, system } = meter(before);
  await consumer.stop();
  const last = order.findIndex((uri, n) => uri !== uriOf(`host${n}.example.test`));
  if (last >= 0 || store.cursor(peer.did) !== frames.length) throw new Error(`out of order at ${last}`);
  db.close();
  ledgerDb.close();
  rmSync(folder, { recursive: true });
  return (frames.length * 1_000_000) / (user + system);
}

function oneByOne(check: (label: SignedLabel, didKey: string) => Promise<boolean> | boolean): LabelVerifier {
  return {
    verify: async (_owner, labels, didKey) => {
      const verdicts: boolean[] = [];
      for (const label of labels) verdicts.push(await check(label, didKey));
      return verdicts;
    },
  };
}

function byNoble(label: SignedLabel, didKey: string): Promise<boolean> {
  return noble.verifySignature(didKey, labelBytes(label), label.sig);
}

function byNode(didKey: string): (label: SignedLabel) => boolean {
  const { curve, point } = pointOf(didKey)!;
  const verify = nodeVerifier(curve, point);
  return (label) => verify(labelBytes(label), label.sig);
}
