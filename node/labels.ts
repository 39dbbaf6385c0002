/**
 * The composition of the role `labeler`: the labels of this cooperative, and what makes them.
 *
 * Belongs to node.ts, which loads it where the role is and says when each part starts.
 */
import type { AppView } from '../appview/appview.ts';
import type { Identities } from '../appview/identity/did.ts';
import type { Composing } from './composing.ts';
import { domainChecks } from './labeler/checks.ts';
import { IssuedLabels } from './labeler/issued-labels.ts';
import { Labeler } from './labeler/labeler.ts';
import { LabelerSchedule } from './labeler/schedule.ts';
import { Verifications } from './labeler/verifications.ts';
import { registerLabeler } from './labeler/xrpc.ts';
import type { Resolver } from './resolver.ts';
import type { Membership } from './state.ts';
import type { Xrpc } from './web/xrpc.ts';

export type LabelsOptions = Composing & { state: Membership };

/** Served from now on; nothing is issued yet. */
export async function issuedLabels(
  { config, state, count, now }: LabelsOptions,
  xrpc: Xrpc,
): Promise<IssuedLabels> {
  const { db, keys } = state;
  const issued = new IssuedLabels({ db, did: config.did, key: keys.label, now });
  registerLabeler(await xrpc.open(), { db, issued, now, count });
  return issued;
}

export function startLabeler(
  { config, state, stops, log, count, now }: LabelsOptions,
  issued: IssuedLabels,
  { attestations }: AppView,
  o: { identities: Identities; resolver: Resolver },
): void {
  const { reverifyInterval, retryUnverified } = config.labeler;
  const verifications = new Verifications(state.db);
  const control = { identities: o.identities, fetch: o.identities.fetch };
  const labeler = new Labeler({
    ...{ issued, verifications, members: state.members, attestations },
    check: domainChecks({ resolver: o.resolver, control, now }),
    reverifyIntervalMs: reverifyInterval,
    retryUnverifiedMs: retryUnverified,
    ...{ log, count, now },
  });
  const schedule = new LabelerSchedule({ labeler, verifications, attestations, now, log });
  schedule.start();
  stops.work('labeler', () => schedule.stop());
}
