/**
 * What adding a peer would mean, for a person to read before saying yes.
 *
 * Everything in it is the peer's own word, proved to be that; how many labels it offers is what its labeler
 * says now, not verified, counted to a limit.
 */
import { attestedDomain } from '../../appview/attestation-uri.ts';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import { verifiedMailOperator } from '../../appview/label-values.ts';
import type { Declared } from './declaration.ts';
import type { DeclaredThen } from './peer-book.ts';
import type { LabelerIdentity } from './peer-name.ts';

export type PeerPreview = DeclaredThen & {
  did: string;
  /** Where its declaration was read. */
  source: Declared['source'];
  description?: string;
  policy?: string;
  contact?: string;
  sendingAddresses: string[];
  /** Its stances towards others. */
  peers: { did: string; stance: string; reason?: string }[];
  /** Whom it guarantees itself. */
  guarantees: string[];
  /** Absent: its labeler did not say. */
  offers?: Offer;
};

/** Votes that its labeler has in force, and on how many domains. `isAll` false: there are more. */
export type Offer = { votes: number; domains: number; isAll: boolean };

const pageSize = 250;
const maxPages = 8;
const maxPageBytes = 1024 * 1024;

export function previewOf(
  identity: LabelerIdentity,
  declared: Declared,
  offers: Offer | undefined,
): PeerPreview {
  const { name, description, policy, contact, poolDomain, sendingAddresses = [] } = declared.cooperative;
  const { did, labeler, labelKey } = identity;
  const peers = declared.peers.map(({ subject, stance, reason }) => ({
    did: subject as string,
    stance: shown(stance),
    ...(reason !== undefined && { reason: shown(reason) }),
  }));
  return {
    ...{ did, name: shown(name), poolDomain, labeler, labelKey, source: declared.source },
    ...(description !== undefined && { description: shown(description) }),
    ...(policy !== undefined && { policy: shown(policy) }),
    ...(contact !== undefined && { contact: shown(contact) }),
    ...{ sendingAddresses, peers },
    guarantees: peers.filter(({ stance }) => stance === 'guarantee').map((peer) => peer.did),
    ...(offers && { offers }),
  };
}

/** A stranger's words on a terminal: no control characters, nothing that turns the direction of the text. */
function shown(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ').trim();
}

/** @returns undefined when the labeler does not answer, or not with labels */
export async function offerOf(
  { did, labeler }: LabelerIdentity,
  fetch: GuardedFetch,
): Promise<Offer | undefined> {
  const votes = new Set<string>();
  let cursor: string | undefined;
  try {
    for (let page = 0; page < maxPages; page++) {
      const { labels, cursor: next } = await labelsPage(labeler, cursor, fetch);
      for (const uri of labels.flatMap((label) => voteUri(label, did))) votes.add(uri);
      if (labels.length === 0 || !next || next === cursor) return counted(votes, true);
      cursor = next;
    }
    return counted(votes, false);
  } catch {
    return undefined;
  }
}

async function labelsPage(labeler: string, cursor: string | undefined, fetch: GuardedFetch) {
  const query = new URLSearchParams({ uriPatterns: '*', limit: String(pageSize), ...(cursor && { cursor }) });
  const url = `${labeler}/xrpc/com.atproto.label.queryLabels?${query}`;
  const { status, body } = await fetch(url, { maxBytes: maxPageBytes, timeoutMs: 5_000 });
  const page = JSON.parse(Buffer.from(body).toString('utf8')) as { labels?: unknown; cursor?: unknown };
  if (status !== 200 || !Array.isArray(page.labels)) throw new Error(`${url} answered ${status}`);
  const { labels, cursor: next } = page as { labels: unknown[]; cursor?: unknown };
  return { labels, cursor: typeof next === 'string' ? next : undefined };
}

function voteUri(label: unknown, src: string): string[] {
  const { uri, val, neg, cid, src: by } = (label ?? {}) as Record<string, unknown>;
  const isVote = by === src && val === verifiedMailOperator && neg !== true && typeof cid === 'string';
  return isVote && typeof uri === 'string' && attestedDomain(uri) !== undefined ? [uri] : [];
}

function counted(votes: ReadonlySet<string>, isAll: boolean): Offer {
  const domains = new Set([...votes].map((uri) => attestedDomain(uri)));
  return { votes: votes.size, domains: domains.size, isAll };
}
