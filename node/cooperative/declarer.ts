/**
 * What this cooperative declares of itself and its peers, signed anew when that changes and well before it ends.
 *
 * The node serves it (xrpc.ts). A cooperative with a repo writes the same as records: declarationsToPublish().
 */
import type { Keypair } from '@atproto/crypto';
import type { Config } from '../config.ts';
import { type CooperativeRecord, type PeerRecord, signDeclaration } from './declaration.ts';
import { singleAddress } from './declared.ts';
import { type PeerBook, recordKeyOf, recordOf } from './peer-book.ts';

const lifetimeMs = 7 * 24 * 3_600_000;
const renewAfterMs = 24 * 3_600_000;
/** email.atmos.cooperative#sendingAddresses */
const maxAddresses = 64;

type Declaring = { config: Config; book: Pick<PeerBook, 'all' | 'version'> };

/** A record as a repo holds it. */
export type PublishedRecord = { collection: string; rkey: string; record: CooperativeRecord | PeerRecord };

/** @returns gives the signed bytes; one signature a day and a change, however often it is asked */
export function declarer(
  o: Declaring & { key: () => Keypair; now: () => number },
): () => Promise<Uint8Array> {
  let signedAt = Number.NEGATIVE_INFINITY;
  let key: Keypair;
  let version: number | undefined;
  let bytes: Promise<Uint8Array>;
  return () => {
    if (version !== o.book.version || key !== o.key() || o.now() - signedAt > renewAfterMs) {
      key = o.key();
      signedAt = o.now();
      version = o.book.version;
      bytes = sign({ ...o, key }, signedAt);
      // A failure is the caller's to see, and not kept for a day.
      bytes.catch(() => {
        signedAt = Number.NEGATIVE_INFINITY;
      });
    }
    return bytes;
  };
}

/**
 * The same as records of a repo: `email.atmos.cooperative/self` and one `email.atmos.peer` for each peer.
 *
 * @param at Unix ms: `createdAt` of what has no time of its own
 */
export function declarationsToPublish({ config, book }: Declaring, at: number): PublishedRecord[] {
  const peers = book.all().map((peer) => ({
    ...{ collection: 'email.atmos.peer', rkey: recordKeyOf(peer.did), record: recordOf(peer, at) },
  }));
  return [{ collection: 'email.atmos.cooperative', rkey: 'self', record: ourselves(config, at) }, ...peers];
}

function sign({ config, book, key }: Declaring & { key: Keypair }, issuedAt: number): Promise<Uint8Array> {
  const peers = book.all().map((peer) => recordOf(peer, issuedAt));
  const cooperative = ourselves(config, issuedAt);
  return signDeclaration({ iss: config.did, issuedAt, lifetimeMs, cooperative, peers }, key);
}

function ourselves(config: Config, at: number): CooperativeRecord {
  const { description, policy, contact } = config.declaration;
  const addresses = sendingAddresses(config);
  return {
    $type: 'email.atmos.cooperative',
    name: config.name,
    ...(description && { description }),
    ...(policy && { policy }),
    poolDomain: config.domain,
    ...(addresses.length > 0 && { sendingAddresses: addresses }),
    labeler: config.labelerUrl,
    ...(config.roles.includes('appview') && { appview: config.publicUrl }),
    ...(config.roles.includes('relay') && { relay: config.publicUrl }),
    ...(contact && { contact }),
    createdAt: new Date(at).toISOString(),
  } as CooperativeRecord;
}

/** Each once, in the form that others compare. */
function sendingAddresses({ declaration, delivery }: Config): string[] {
  const named = declaration.sendingAddresses ?? delivery.sources.map(({ address }) => address);
  return [...new Set(named.flatMap((address) => singleAddress(address) ?? []))].slice(0, maxAddresses);
}
