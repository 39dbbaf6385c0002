/**
 * This cooperative's declaration as its configuration has it, signed anew well before it ends.
 *
 * For a cooperative without a repo; the configuration is read once, so the peers are those of the start.
 */
import type { Keypair } from '@atproto/crypto';
import type { Config } from '../config.ts';
import { type CooperativeRecord, type PeerRecord, signDeclaration } from './declaration.ts';

const lifetimeMs = 7 * 24 * 3_600_000;
const renewAfterMs = 24 * 3_600_000;

/** @returns gives the signed bytes; one signature a day, however often it is asked */
export function declarer(o: { config: Config; key: Keypair; now: () => number }): () => Promise<Uint8Array> {
  let signedAt = Number.NEGATIVE_INFINITY;
  let bytes: Promise<Uint8Array>;
  return () => {
    if (o.now() - signedAt > renewAfterMs) {
      signedAt = o.now();
      bytes = declare(o.config, o.key, signedAt);
      // A failure is the caller's to see, and not kept for a day.
      bytes.catch(() => {
        signedAt = Number.NEGATIVE_INFINITY;
      });
    }
    return bytes;
  };
}

function declare(config: Config, key: Keypair, issuedAt: number): Promise<Uint8Array> {
  const createdAt = new Date(issuedAt).toISOString();
  const cooperative = {
    $type: 'email.atmos.cooperative',
    name: config.name,
    poolDomain: config.domain,
    labeler: config.labelerUrl,
    ...(config.roles.includes('appview') && { appview: config.publicUrl }),
    ...(config.roles.includes('relay') && { relay: config.publicUrl }),
    createdAt,
  } as CooperativeRecord;
  const peers = config.peers.map(
    ({ did, stance }) => ({ $type: 'email.atmos.peer', subject: did, stance, createdAt }) as PeerRecord,
  );
  return signDeclaration({ iss: config.did, issuedAt, lifetimeMs, cooperative, peers }, key);
}
