/**
 * What a cooperative says of itself and its peers, signed, for a cooperative without a repo.
 *
 * Promise: verifyDeclaration() returns a declaration only when its bytes are one canonical DAG-CBOR map
 * with our `$type`, valid by the lexicon, issued by the expected DID, in force now, and signed by that
 * DID's label key. The `$type` keeps a signed label from ever passing as a declaration, and the reverse.
 *
 * Lexicon: email.atmos.defs#declaration. How it is fetched is declared.ts's business; what trust follows, a person's.
 */
import type { Keypair } from '@atproto/crypto';
import { decode, encode } from '@atproto/lex-cbor';
import { verifySignature } from '../../appview/identity/signature.ts';
import { email } from '../../lexicons/index.ts';

export type Declaration = email.atmos.defs.Declaration;
export type CooperativeRecord = email.atmos.cooperative.Main;
export type PeerRecord = email.atmos.peer.Main;

/** What a cooperative declares, wherever it was read. */
export type Declared = {
  source: 'repo' | 'node';
  cooperative: CooperativeRecord;
  /** Its stances. */
  peers: PeerRecord[];
};

export const declarationType = 'email.atmos.defs#declaration';

/** More than 1,024 peers with long reasons; a larger one is not read. */
export const maxDeclarationBytes = 1024 * 1024;

/** The peer's clock may be ahead of ours by this much. */
const clockSkewMs = 5 * 60_000;

export type DeclarationRefusal =
  | 'too-large'
  | 'not-dag-cbor'
  | 'wrong-type'
  | 'invalid'
  | 'wrong-issuer'
  | 'not-yet-valid'
  | 'expired'
  | 'bad-signature';

/**
 * @param statement `issuedAt` and `lifetimeMs` in Unix ms and ms
 * @param key the label key of `iss`
 * @throws when a record breaks its lexicon: we never sign what others must refuse
 */
export async function signDeclaration(
  statement: {
    iss: string;
    issuedAt: number;
    lifetimeMs: number;
    cooperative: CooperativeRecord;
    peers: PeerRecord[];
  },
  key: Keypair,
): Promise<Uint8Array> {
  const fields = {
    $type: declarationType,
    iss: statement.iss,
    iat: new Date(statement.issuedAt).toISOString(),
    exp: new Date(statement.issuedAt + statement.lifetimeMs).toISOString(),
    cooperative: statement.cooperative,
    peers: statement.peers,
  };
  const sig = await key.sign(encode(fields));
  return encode(
    email.atmos.defs.declaration.parse({ ...fields, sig }) as typeof fields & { sig: Uint8Array },
  );
}

/**
 * @param expected the DID whose declaration was asked for, and the did:key of its `#atproto_label`
 * @param now Unix ms
 */
export function verifyDeclaration(
  bytes: Uint8Array,
  expected: { did: string; labelKey: string },
  now: number,
): { kind: 'valid'; declaration: Declaration } | { kind: 'refused'; why: DeclarationRefusal } {
  const read = readDeclaration(bytes);
  if (typeof read === 'string') return { kind: 'refused', why: read };
  const why = objection(read, expected, now);
  return why ? { kind: 'refused', why } : { kind: 'valid', declaration: read };
}

function readDeclaration(bytes: Uint8Array): Declaration | DeclarationRefusal {
  if (bytes.length > maxDeclarationBytes) return 'too-large';
  const value = readCanonical(bytes);
  if (value === undefined) return 'not-dag-cbor';
  if ((value as { $type?: unknown } | null)?.$type !== declarationType) return 'wrong-type';
  const parsed = email.atmos.defs.declaration.safeParse(value);
  return parsed.success ? parsed.value : 'invalid';
}

/** One declaration has one form of bytes: what decodes alike but is written otherwise is refused. */
function readCanonical(bytes: Uint8Array): unknown {
  try {
    const value = decode(bytes);
    return Buffer.compare(encode(value), bytes) === 0 ? value : undefined;
  } catch {
    return undefined;
  }
}

function objection(
  declaration: Declaration,
  expected: { did: string; labelKey: string },
  now: number,
): DeclarationRefusal | undefined {
  if (declaration.iss !== expected.did) return 'wrong-issuer';
  if (Date.parse(declaration.iat) > now + clockSkewMs) return 'not-yet-valid';
  if (Date.parse(declaration.exp) <= now) return 'expired';
  const { sig, ...fields } = declaration;
  return verifySignature(expected.labelKey, encode(fields), sig) ? undefined : 'bad-signature';
}
