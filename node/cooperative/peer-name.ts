/**
 * From what an operator types to the DID of a cooperative: `harbor.example`, a URL, or a DID.
 *
 * A domain may be a did:web, or a handle, proved in both directions (https://atproto.com/specs/handle). Where
 * both lead to a labeler and not to the same one, we do not guess.
 */
import { type Identities, IdentityNotFound, IdentityUnavailable } from '../../appview/identity/did.ts';
import type { Identity } from '../../appview/identity/document.ts';
import { FetchFailed, FetchRefused } from '../../appview/identity/fetch.ts';
import { normalizeDomain } from '../members/domain-name.ts';
import type { Resolver } from '../resolver.ts';
import { PeerRefused } from './peer-refusal.ts';

/** An identity that can be a cooperative's. */
export type LabelerIdentity = Identity & { labeler: string; labelKey: string };

export type NameSources = { identities: Identities; resolver: Pick<Resolver, 'txt'> };

type Looked = Identity | { failed: Error };

const did = /^did:(plc:[a-z2-7]{24}|web:[A-Za-z0-9.%-]{1,255})$/;
const maxHandleBytes = 4_096;

/** @throws PeerRefused unknown-name, no-labeler or unavailable */
export async function labelerNamed(word: string, sources: NameSources): Promise<LabelerIdentity> {
  const name = bare(word);
  const candidates = did.test(name) ? [await look(name, sources)] : await candidatesOf(name, sources);
  const found = candidates.filter((one): one is Identity => !('failed' in one));
  const labelers = found.filter((one): one is LabelerIdentity => Boolean(one.labeler && one.labelKey));
  const [first, second] = labelers;
  if (second && second.did !== first?.did)
    throw new PeerRefused('unknown-name', `${name} is ${first!.did} and ${second.did}. Name one by its DID.`);
  if (first) return first;
  if (found[0]) throw new PeerRefused('no-labeler', `${found[0].did} ${missing(found[0])}`);
  throw unresolved(
    name,
    candidates.flatMap((one) => ('failed' in one ? one.failed : [])),
  );
}

/** Whether the word is a DID, and not a name that may lead to one. */
export function isDid(word: string): boolean {
  return did.test(bare(word));
}

/** The DID that a word stands for by itself: no network is asked. */
export function didNamed(word: string): string | undefined {
  const name = bare(word);
  return did.test(name) ? name : webDid(name);
}

/** Without the scheme and the path of a URL. */
function bare(word: string): string {
  return word.trim().replace(/^https?:\/\/([^/]+)\/?$/i, '$1');
}

function webDid(name: string): string | undefined {
  if (/^localhost:\d{1,5}$/.test(name)) return `did:web:${encodeURIComponent(name)}`;
  const domain = normalizeDomain(name.replace(/\.$/, ''));
  return domain && `did:web:${domain}`;
}

async function candidatesOf(name: string, sources: NameSources): Promise<Looked[]> {
  const web = webDid(name);
  if (!web)
    throw new PeerRefused('unknown-name', `${name} is no domain and no DID. It looks like harbor.example.`);
  const domain = normalizeDomain(name.replace(/\.$/, ''));
  return Promise.all([look(web, sources), ...(domain ? [lookHandle(domain, sources)] : [])]);
}

async function look(wanted: string, { identities }: NameSources): Promise<Looked> {
  try {
    return await identities.resolve(wanted, { refresh: true });
  } catch (error) {
    if (error instanceof IdentityNotFound || error instanceof IdentityUnavailable) return { failed: error };
    throw error;
  }
}

async function lookHandle(domain: string, sources: NameSources): Promise<Looked> {
  const claimed = (await handleInDns(domain, sources)) ?? (await handleOnTheWeb(domain, sources));
  if (claimed instanceof Error) return { failed: claimed };
  const identity = await look(claimed, sources);
  if ('failed' in identity || identity.handle === domain) return identity;
  return { failed: new IdentityNotFound(`${claimed} does not call itself ${domain}`) };
}

/** @returns undefined where DNS has no such record */
async function handleInDns(domain: string, { resolver }: NameSources): Promise<string | Error | undefined> {
  const answer = await resolver.txt(`_atproto.${domain}`);
  if (answer.kind === 'failed') return new IdentityUnavailable(`_atproto.${domain}: ${answer.reason}`);
  if (answer.kind !== 'found') return undefined;
  const claimed = answer.records.filter((text) => text.startsWith('did=')).map((text) => text.slice(4));
  if (claimed.length > 1) return new IdentityNotFound(`_atproto.${domain} names ${claimed.length} DIDs`);
  return claimed[0] && did.test(claimed[0]) ? claimed[0] : undefined;
}

async function handleOnTheWeb(domain: string, { identities }: NameSources): Promise<string | Error> {
  const url = `https://${domain}/.well-known/atproto-did`;
  try {
    const { status, body } = await identities.fetch(url, { maxBytes: maxHandleBytes });
    const claimed = Buffer.from(body).toString('utf8').trim();
    return status === 200 && did.test(claimed) ? claimed : new IdentityNotFound(`${url} names no DID`);
  } catch (error) {
    if (error instanceof FetchRefused || error instanceof FetchFailed)
      return new IdentityNotFound(`${domain}: ${error.message}`);
    throw error;
  }
}

function missing({ labeler, labelKey }: Identity): string {
  if (!labeler && !labelKey)
    return 'is no labeler: its document has no #atproto_labeler and no #atproto_label.';
  return `has no ${labeler ? 'key #atproto_label' : 'service #atproto_labeler'} in its document.`;
}

function unresolved(name: string, failures: Error[]): PeerRefused {
  const isTransient = failures.some((failure) => failure instanceof IdentityUnavailable);
  const why = failures.map(({ message }) => message).join('; ');
  return new PeerRefused(isTransient ? 'unavailable' : 'unknown-name', `${name} was not found: ${why}.`, {
    cause: failures[0],
  });
}
