/**
 * What peers' private signals say of an account and its domains: the evidence, and where it comes from.
 *
 * A finding is a signal on the account itself, on a record for one of the domains, or on another account that
 * attests one of the domains: a member suspended elsewhere does not come back under a new name.
 */
import type { Database } from '../../appview/database.ts';
import { signalValues } from '../../appview/labels/signal.ts';
import { didOf, type Signals, type StoredSignal } from '../../appview/listing/signals.ts';
import type { PeerSignalDetail } from '../enforcement/peer-signal.ts';

export type Finding = PeerSignalDetail & {
  /** Unix ms. */
  receivedAt: number;
};

export type FindingsOptions = {
  signals: Pick<Signals, 'of'>;
  /** Whose word counts: peers that we guarantee or endorse. */
  isHeard: (src: string) => boolean;
  /** Accounts whose records attest this domain, as far as the AppView knows. */
  attestedBy: (domain: string) => readonly string[];
};

export type FindingsOf = (did: string, domains: readonly string[]) => Finding[];

/** @returns oldest first, each signal once */
export function findings({ signals, isHeard, attestedBy }: FindingsOptions): FindingsOf {
  return (did, domains) => {
    const found = new Map<string, Finding>();
    const add = (by: Finding['by'], stored: readonly StoredSignal[]) => {
      for (const finding of stored.flatMap((one) => findingOf(one, by, isHeard)))
        if (!found.has(keyOf(finding))) found.set(keyOf(finding), finding);
    };
    add('did', signals.of({ did }));
    for (const domain of domains) {
      add('domain', signals.of({ domain }));
      for (const other of attestedBy(domain)) add('domain-of-did', signals.of({ did: other }));
    }
    return [...found.values()].sort((a, b) => a.receivedAt - b.receivedAt);
  };
}

/** Those for which an enrolment waits until somebody has looked. */
export function isSuspension({ val }: Pick<Finding, 'val'>): boolean {
  return val === 'suspended' || val === 'removed';
}

/** Members whom a signal is about, with what led to them. @param db node.db */
export function membersNamed(
  db: Database.Database,
  attestationsOf: (did: string) => readonly string[],
): (uri: string, domain: string | undefined) => Map<string, Finding['by']> {
  const member = db.prepare('SELECT did FROM member WHERE did = ?');
  const owner = db.prepare('SELECT did FROM domain WHERE name = ?');
  return (uri, domain) => {
    const named = new Map<string, Finding['by']>();
    const add = (row: unknown, by: Finding['by']) => {
      const { did } = (row ?? {}) as { did?: string };
      if (did !== undefined && !named.has(did)) named.set(did, by);
    };
    const did = didOf(uri);
    add(member.get(did), 'did');
    if (domain !== undefined) add(owner.get(domain), 'domain');
    for (const other of attestationsOf(did)) add(owner.get(other), 'domain-of-did');
    return named;
  };
}

/** @returns empty for what is not heard, and for values that a later protocol adds */
export function findingOf(
  { signal: { label, reason, evidence, figures }, receivedAt }: StoredSignal,
  by: Finding['by'],
  isHeard: (src: string) => boolean,
): Finding[] {
  const val = signalValues.find((known) => known === label.val);
  if (!val || !isHeard(label.src)) return [];
  return [
    {
      ...{ src: label.src, val, uri: label.uri, cts: label.cts, by, receivedAt },
      ...(label.exp !== undefined && { exp: label.exp }),
      ...(reason !== undefined && { reason }),
      ...(evidence !== undefined && { evidence }),
      ...(figures !== undefined && { figures }),
    },
  ];
}

function keyOf({ src, uri, val }: Finding): string {
  return `${src} ${uri} ${val}`;
}
