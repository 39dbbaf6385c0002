/**
 * Does the domain belong to the account?
 *
 * Yes when `_atproto.<domain>` names the DID. Or when the domain is the account's handle, proved in both
 * directions (https://atproto.com/specs/handle): the DID document claims it, and the domain answers with
 * the DID at `/.well-known/atproto-did`. A handle that only one side claims proves nothing, and where the TXT
 * record names a DID, no handle is asked: it names the member, or the domain is not the member's.
 */
import { type Identity, IdentityNotFound, IdentityUnavailable } from '../../appview/identity/did.ts';
import { FetchFailed, FetchRefused, type GuardedFetch } from '../../appview/identity/fetch.ts';
import { type Finding, judged, passed, recordsOf, undecided } from './finding.ts';
import { judgeControlRecord, namedDids } from './judgements.ts';
import type { Witness } from './witness.ts';

/** Satisfied by appview's Identities. */
export interface HandleClaims {
  /** @throws IdentityUnavailable (transient) or IdentityNotFound */
  resolve(did: string): Promise<Identity>;
}

export type ControlSources = {
  identities: HandleClaims;
  /** Left out where nothing may be fetched: then only the TXT record proves control. */
  fetch?: GuardedFetch;
};

const maxBodyBytes = 4_096;

export async function checkControl(
  subject: { did: string; domain: string },
  witness: Witness,
  sources: ControlSources,
): Promise<Finding> {
  const answer = await witness.txt(`_atproto.${subject.domain}`);
  const byRecord = judged(answer, (texts) => judgeControlRecord(texts, subject.did));
  if (byRecord.verdict === 'passed' || namedDids(recordsOf(answer)).size > 0) return byRecord;
  const byHandle = await checkHandle(subject, witness, sources);
  if (byHandle?.verdict === 'passed') return byHandle;
  // Whoever could not answer might have said yes.
  return [byRecord, byHandle].find((finding) => finding?.verdict === 'undecided') ?? byRecord;
}

/** @returns undefined when the domain is not this account's handle, or cannot be asked */
async function checkHandle(
  { did, domain }: { did: string; domain: string },
  witness: Witness,
  { identities, fetch }: ControlSources,
): Promise<Finding | undefined> {
  if (!fetch) return undefined;
  try {
    const { handle } = await identities.resolve(did);
    const isHandle = handle?.toLowerCase() === domain;
    const records = handle === undefined ? [] : [handle];
    const answer = handle === undefined ? 'none' : 'found';
    witness.note({ asked: `handle of ${did}`, server: 'its DID document', answer, records });
    if (!isHandle) return undefined;
    // Most mail domains have no web server: that is an answer, and no reason to wait for one.
    if (!(await witness.hasAddress(domain))) return undefined;
    return await fetchWellKnown(did, domain, witness, fetch);
  } catch (error) {
    if (error instanceof IdentityNotFound || error instanceof FetchRefused) return undefined;
    if (!(error instanceof IdentityUnavailable) && !(error instanceof FetchFailed)) throw error;
    const asked = error instanceof FetchFailed ? wellKnown(domain) : `handle of ${did}`;
    witness.note({ asked, server: domain, answer: 'failed', records: [error.message] });
    return undecided(`the handle could not be checked: ${error.message}`);
  }
}

async function fetchWellKnown(
  did: string,
  domain: string,
  witness: Witness,
  fetch: GuardedFetch,
): Promise<Finding | undefined> {
  const url = wellKnown(domain);
  const response = await fetch(url, { maxBytes: maxBodyBytes });
  const text = Buffer.from(response.body).toString('utf8').trim();
  const isAnswer = response.status === 200;
  witness.note({
    asked: url,
    server: domain,
    answer: isAnswer ? 'found' : 'none',
    records: [isAnswer ? text : `HTTP ${response.status}`],
  });
  if (response.status >= 500) return undecided(`${url} answered ${response.status}`);
  return isAnswer && text === did ? passed('the domain is the handle of the DID') : undefined;
}

function wellKnown(domain: string): string {
  return `https://${domain}/.well-known/atproto-did`;
}
