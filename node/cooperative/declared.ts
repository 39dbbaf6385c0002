/**
 * Reads what another cooperative declares: records of its repo, or one signed declaration of its node.
 *
 * Promise: what comes back was signed by the peer's own keys, is valid by the lexicons, of bounded size, and
 * agrees with the peer's DID document. A repo that holds `email.atmos.cooperative/self` is the declaration;
 * where it proves that it holds none, or there is no repo, the node is asked.
 *
 * Whether to trust it is a person's to decide, with preview.ts.
 */
import { isIP } from 'node:net';
import { FetchFailed, FetchRefused, type GuardedFetch } from '../../appview/identity/fetch.ts';
import { normalizeDomain } from '../members/domain-name.ts';
import { type Declared, maxDeclarationBytes, verifyDeclaration } from './declaration.ts';
import type { LabelerIdentity } from './peer-name.ts';
import { badDeclaration as bad, PeerRefused, unanswered } from './peer-refusal.ts';

export type DeclaredSources = { fetch: GuardedFetch; now: () => number };

const path = '/xrpc/email.atmos.cooperative.getDeclaration';

/** @throws PeerRefused bad-declaration or unavailable */
export async function readDeclared(identity: LabelerIdentity, sources: DeclaredSources): Promise<Declared> {
  const declared = await explained(async () => {
    const inRepo = identity.pds ? await readFromRepo(identity, sources) : undefined;
    return inRepo ?? (await readFromNode(identity, sources));
  });
  const wrong = objection(declared, identity);
  if (wrong) throw bad(`${identity.did} ${wrong}`);
  return declared;
}

async function readFromRepo(
  identity: LabelerIdentity,
  sources: DeclaredSources,
): Promise<Declared | undefined> {
  const { RepoDeclarations } = await import('./declared-in-repo.ts');
  return new RepoDeclarations(identity, sources).read();
}

async function readFromNode(identity: LabelerIdentity, { fetch, now }: DeclaredSources): Promise<Declared> {
  const url = `${identity.labeler}${path}`;
  const response = await fetch(url, { maxBytes: maxDeclarationBytes });
  if (response.status !== 200) throw unanswered(url, response);
  const { did, labelKey } = identity;
  const verdict = verifyDeclaration(response.body, { did, labelKey }, now());
  if (verdict.kind === 'refused') throw bad(`the declaration at ${url} is refused: ${inWords(verdict.why)}.`);
  return { source: 'node', cooperative: verdict.declaration.cooperative, peers: verdict.declaration.peers };
}

/** What signatures and lexicons do not say: does it fit the DID document, and mean what it must? */
function objection({ cooperative, peers }: Declared, { did, labeler }: LabelerIdentity): string | undefined {
  const { poolDomain, sendingAddresses = [] } = cooperative;
  if (originOf(cooperative.labeler) !== labeler)
    return `declares the labeler ${cooperative.labeler}, and its DID document says ${labeler}.`;
  if (normalizeDomain(poolDomain) !== poolDomain) return `declares ${poolDomain}, which is no pool domain.`;
  const notOne = sendingAddresses.find((address) => singleAddress(address) !== address);
  if (notOne !== undefined) return `declares ${notOne}, which is not one address in its usual form.`;
  if (peers.some(({ subject }) => subject === did)) return 'declares itself as its own peer.';
  if (new Set(peers.map(({ subject }) => subject)).size < peers.length) return 'declares a peer twice.';
  return undefined;
}

function originOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).origin : undefined;
}

/** @returns dotted, or as RFC 5952 has it; undefined for what is not one address */
export function singleAddress(text: string): string | undefined {
  const version = isIP(text);
  if (version !== 6) return version === 4 ? text : undefined;
  // A zone index is no part of an address that others can use.
  return text.includes('%') ? undefined : new URL(`http://[${text}]`).hostname.slice(1, -1);
}

async function explained(read: () => Promise<Declared>): Promise<Declared> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof FetchRefused)
      throw bad(`what it declares cannot be fetched: ${error.message}.`, error);
    if (error instanceof FetchFailed)
      throw new PeerRefused('unavailable', `it does not answer: ${error.message}.`, { cause: error });
    throw error;
  }
}

function inWords(why: Extract<ReturnType<typeof verifyDeclaration>, { kind: 'refused' }>['why']): string {
  return {
    'too-large': 'it is too large',
    'not-dag-cbor': 'it is not canonical DAG-CBOR',
    'wrong-type': 'it has another $type',
    invalid: 'it breaks the lexicon',
    'wrong-issuer': 'it is of another DID',
    'not-yet-valid': 'it begins in the future',
    expired: 'it has expired',
    'bad-signature': 'the label key of the DID document did not sign it',
  }[why];
}
