/**
 * The composition of the roles `appview` and `dns`: what the network says of a domain, and its answer in DNS.
 *
 * Belongs to node.ts, which loads it where the role is and says when each part starts.
 */
import { join } from 'node:path';
import { AppView } from '../appview/appview.ts';
import { openDatabase } from '../appview/database.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import type { Identities } from '../appview/identity/did.ts';
import type { LabelSource } from '../appview/labels/source.ts';
import { appviewMigrations, ledgerMigrations } from '../appview/migrations.ts';
import type { Listing } from '../dnsbl/listing.ts';
import type { Composing } from './composing.ts';
import type { IssuedLabels } from './labeler/issued-labels.ts';
import { ownLabelSource } from './labeler/own-source.ts';
import { named } from './listening.ts';
import type { Membership } from './state.ts';
import type { Xrpc } from './web/xrpc.ts';

/** @param o.issued our own labels, where we issue any */
export async function openAppView(
  { config, stops, log, count, now }: Composing,
  o: { identities: Identities; rules: AddressRules; xrpc: Xrpc; issued: IssuedLabels | undefined },
): Promise<AppView> {
  const { did, domain, publicUrl, stateDir, firehose, peers, listing } = config;
  const appviewDb = openDatabase(join(stateDir, 'appview.db'), appviewMigrations, { synchronous: 'NORMAL' });
  stops.store('appview.db', () => appviewDb.close());
  const ledgerDb = openDatabase(join(stateDir, 'ledger.db'), ledgerMigrations, { synchronous: 'FULL' });
  stops.store('ledger.db', () => ledgerDb.close());
  const own: { did: string; source: LabelSource }[] = o.issued
    ? [{ did, source: ownLabelSource(o.issued) }]
    : [];
  const appview = new AppView({
    ...{ appviewDb, ledgerDb, did, publicUrl, identities: o.identities, firehose, rules: o.rules },
    // Whom we censure we do not even read; what others say is stored, and counted by its stance.
    follow: [
      ...own,
      ...peers.filter(({ stance }) => stance !== 'censure').map((peer) => ({ did: peer.did })),
    ],
    roots: peers.filter(({ stance }) => stance === 'guarantee').map((peer) => peer.did),
    // The pool domain signs for everyone: as an entry of its own it would vouch for all at once.
    policy: { newcomerDays: listing.newcomerDays, neverListed: [domain] },
    ...{ log, count, now },
  });
  appview.register(await o.xrpc.open());
  return appview;
}

export async function startDns(
  { config, stops, log, count, now }: Composing,
  { listings, zoneSerial }: AppView,
): Promise<void> {
  const [{ DnsServer }, { Zone }] = await Promise.all([
    import('../dnsbl/server.ts'),
    import('../dnsbl/zone.ts'),
  ]);
  const zone = new Zone({
    ...config.dns!,
    now,
    serial: zoneSerial.last,
    onSerial: (serial) => zoneSerial.keep(serial),
  });
  const apply = (listing: Listing) => {
    if (zone.apply(listing) === 'unlistable') count('listings_unlistable');
  };
  // In one turn of the event loop, so nothing changes between the two.
  const unfollow = listings.onChange(apply);
  zone.replace(listings.all());
  const listen = config.listen.dns;
  const server = new DnsServer({ zones: [zone], listen, log });
  await named('listen.dns', listen, server.start());
  stops.listener('dns', () => server.stop());
  stops.work('zone', unfollow);
}

export function startAppView({ stops }: Composing, appview: AppView, { members }: Membership): void {
  // Our own members' records are asked for by name: a new index has only what the firehose still holds.
  for (const { did, domains } of members.list()) {
    if (appview.attestations.hidden(did)) continue;
    const indexed = new Set(appview.attestations.of(did).map(({ rkey }) => rkey));
    for (const { name } of domains) if (!indexed.has(name)) appview.recheck(did, name);
  }
  appview.start();
  stops.work('appview', () => appview.stop());
}
