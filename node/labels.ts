/**
 * The composition of the role `labeler`: the labels of this cooperative, and what makes them.
 *
 * Belongs to node.ts, which loads it where the role is and says when each part starts.
 */
import type { Identities } from '../appview/identity/did.ts';
import type { Attested } from './attestations.ts';
import type { Composing } from './composing.ts';
import type { RecordEvents } from './enforcement/event-log.ts';
import { EventStore } from './enforcement/event-store.ts';
import { outboxes } from './enforcement/events.ts';
import { Rates } from './enforcement/rates.ts';
import { standings } from './enforcement/standing.ts';
import { domainChecks } from './labeler/checks.ts';
import { cleanSenders } from './labeler/clean-sender.ts';
import { DnsMemory } from './labeler/dns-memory.ts';
import { IssuedLabels } from './labeler/issued-labels.ts';
import { Labeler } from './labeler/labeler.ts';
import { LabelerSchedule } from './labeler/schedule.ts';
import { sendingFigures } from './labeler/sending-figures.ts';
import { Verifications } from './labeler/verifications.ts';
import { registerLabeler } from './labeler/xrpc.ts';
import type { Resolver } from './resolver.ts';
import type { Membership } from './state.ts';
import type { Xrpc } from './web/xrpc.ts';

export type LabelsOptions = Composing & { state: Membership };

/** Served from now on; nothing is issued yet. */
export async function issuedLabels(
  { config, state, log, count, now }: LabelsOptions,
  xrpc: Xrpc,
): Promise<IssuedLabels> {
  const { db, keys } = state;
  const issued = new IssuedLabels({
    db,
    did: config.did,
    key: keys.label,
    now,
    historyMs: config.labeler.history,
  });
  await registerLabeler(xrpc, { db, issued, now, count, log });
  return issued;
}

export function startLabeler(
  { config, state, stops, log, count, now }: LabelsOptions,
  issued: IssuedLabels,
  { attestations }: Pick<Attested, 'attestations'>,
  o: { identities: Identities; resolver: Resolver; record: RecordEvents | undefined },
): void {
  const { reverifyInterval, retryUnverified, transientGrace, labelLifetime } = config.labeler;
  const cleanSenderProgress = cleanSenderProgressOf({ config, state, now });
  const verifications = new Verifications(state.db);
  const control = { identities: o.identities, fetch: o.identities.fetch };
  const labeler = new Labeler({
    ...{ issued, verifications, members: state.members, attestations },
    check: domainChecks({ resolver: o.resolver, memory: new DnsMemory(o.resolver, now), control, now }),
    reverifyIntervalMs: reverifyInterval,
    retryUnverifiedMs: retryUnverified,
    transientGraceMs: transientGrace,
    labelLifetimeMs: labelLifetime,
    standingOf: standings({ db: state.db, policy: config.caps, now }),
    isCleanSender: (did, domain) => cleanSenderProgress(did, domain).earned,
    record: o.record ?? recordAlone(state, now),
    ...{ log, count, now },
  });
  const schedule = new LabelerSchedule({ labeler, verifications, attestations, now, log });
  schedule.start();
  stops.work('labeler', () => schedule.stop());
}

/** By the figures in node.db: where the mail is sent elsewhere, nobody earns it. */
export function cleanSenderProgressOf({
  config,
  state,
  now,
}: Pick<LabelsOptions, 'config' | 'state' | 'now'>) {
  const { db, members } = state;
  const ownDomains = (did: string) => members.domainsOf(did).map(({ name }) => name);
  return cleanSenders({
    figuresOf: sendingFigures({ db, rates: new Rates({ db, now }).of, ownDomains, now }),
    standingOf: standings({ db, policy: config.caps, now }),
  });
}

/** Where no mail is sent there is no event log, which would also keep the table small. */
export function recordAlone({ db }: Membership, now: () => number): RecordEvents {
  const store = new EventStore({ db, now });
  return (events, change = () => undefined) => {
    store.record(outboxes.node, [events].flat(), change);
    store.removeOld(store.position(outboxes.node));
  };
}
