/** A thread that verifies what verify-threads.ts hands it, one batch after the other. It needs no other module. */
import { parentPort } from 'node:worker_threads';
import { type CurvePoint, type Verifier, verifierOf } from '../identity/curves.ts';
import { verdictsOn } from './signed-batch.ts';

export type VerifyOrder = { id: number; key: CurvePoint; packed: ArrayBuffer };
export type VerifyAnswer = { id: number; verdicts: Uint8Array };

/** A peer's key serves all its batches; peers are few. */
const maxKeys = 100;
const verifiers = new Map<string, Verifier>();

parentPort!.on('message', ({ id, key, packed }: VerifyOrder) => {
  const verdicts = verdictsOn(packed, verifierFor(key));
  parentPort!.postMessage({ id, verdicts } satisfies VerifyAnswer);
});

function verifierFor(key: CurvePoint): Verifier {
  const name = `${key.curve}:${Buffer.from(key.point).toString('base64')}`;
  const known = verifiers.get(name);
  if (known) return known;
  if (verifiers.size >= maxKeys) verifiers.clear();
  const verifier = verifierOf(key);
  verifiers.set(name, verifier);
  return verifier;
}
