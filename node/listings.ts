/**
 * The composition of the roles `appview` and `dns`: what the network says of a domain, and its answer in DNS.
 *
 * Belongs to node.ts, which loads it where the role is and says when each part starts.
 */
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AppView, type AppViewOptions } from '../appview/appview.ts';
import { openDatabase } from '../appview/database.ts';
import type { Followed } from '../appview/following.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import type { Identities } from '../appview/identity/did.ts';
import type { LabelSource } from '../appview/labels/source.ts';
import type { Listings } from '../appview/listing/listings.ts';
import { appviewMigrations, ledgerMigrations } from '../appview/migrations.ts';
import type { Zone } from '../dnsbl/zone.ts';
import type { Composing } from './composing.ts';
import type { Config } from './config.ts';
import type { Peer, PeerBook } from './cooperative/peer-book.ts';
import { isRead, rootsOf } from './cooperative/peers.ts';
import type { ListServer } from './dns/list-server.ts';
import type { ZoneSettings } from './dns/settings.ts';
import type { Notice } from './enforcement/operator-notices.ts';
import { labelAlerts } from './label-alerts.ts';
import type { IssuedLabels } from './labeler/issued-labels.ts';
import { ownLabelSource } from './labeler/own-source.ts';
import type { Count } from './metrics.ts';
import type { Xrpc } from './web/xrpc.ts';

/** A few milliseconds of work. */
const PAGE = 500;

/**
 * @param o.issued our own labels, where we issue any
 * @param o.tell the operator
 */
export async function openAppView(
  { config, stops, log, count, now }: Composing,
  o: {
    identities: Identities;
    rules: AddressRules;
    xrpc: Xrpc;
    issued: IssuedLabels | undefined;
    book: PeerBook;
    tell: (notice: Notice) => void;
  },
): Promise<AppView> {
  const { did, domain, publicUrl, stateDir, firehose, listing } = config;
  const peers = o.book.all();
  const appviewDb = openDatabase(join(stateDir, 'appview.db'), appviewMigrations, { synchronous: 'NORMAL' });
  stops.store('appview.db', () => appviewDb.close());
  const ledgerDb = openDatabase(join(stateDir, 'ledger.db'), ledgerMigrations, { synchronous: 'FULL' });
  stops.store('ledger.db', () => ledgerDb.close());
  const own: { did: string; source: LabelSource }[] = o.issued
    ? [{ did, source: ownLabelSource(o.issued) }]
    : [];
  const appview = new AppView({
    ...{ appviewDb, ledgerDb, did, publicUrl, identities: o.identities, firehose, rules: o.rules },
    follow: [...own, ...peers.filter(isRead).map(followed)],
    roots: rootsOf(peers),
    // The pool domain signs for everyone: as an entry of its own it would vouch for all at once.
    policy: { newcomerDays: listing.newcomerDays, neverListed: [domain] },
    ...limitsOf(config),
    labelAlerts: labelAlerts(o.tell),
    ...{ log, count, now },
  });
  appview.register(await o.xrpc.open());
  return appview;
}

/** As it declared itself when it was added: nobody was shown another key. */
function followed({ did, declared }: Peer): Followed {
  return { did, ...(declared && { labelKey: declared.labelKey }) };
}

function limitsOf({ peerLimits }: Config): Pick<AppViewOptions, 'labelLimits' | 'keyWaitMs'> {
  const { labelsPerSecond, labelsPerDay, maxLag, maxLabels, keyWait } = peerLimits;
  return {
    labelLimits: { labelsPerSecond, labelsPerDay, maxLagMs: maxLag, maxStored: maxLabels },
    keyWaitMs: keyWait,
  };
}

/** @returns the server, and its zone for those who ask how it stands */
export async function startDns(
  { config, stops, log, count, now }: Composing,
  { listings, zoneSerial }: AppView,
): Promise<{ server: ListServer; zone: Zone }> {
  const [{ ListServer }, { Zone }] = await Promise.all([
    import('./dns/list-server.ts'),
    import('../dnsbl/zone.ts'),
  ]);
  const dns = config.dns!;
  const { apex, nameservers, hostmaster, ttlSeconds, negativeTtlSeconds } = dns;
  const zone = new Zone({
    ...{ apex, nameservers, hostmaster, ttlSeconds, negativeTtlSeconds, now },
    serial: zoneSerial.last,
    onSerial: (serial) => zoneSerial.keep(serial),
  });
  stops.work('zone', await followListings(zone, listings, count));
  const server = await ListServer.start({
    ...{ zones: [{ zone, settings: zoneOf(dns) }], settings: dns, stateDir: config.stateDir },
    ...{ listen: config.listen.dns, listenKey: 'listen.dns', stops, log, count, now },
  });
  return { server, zone };
}

/** A node's one zone; its secondaries stand in the section itself. */
export function zoneOf({ apex, unkeyed, unkeyedQuota, keys }: NonNullable<Config['dns']>): ZoneSettings {
  return { apex, unkeyed, unkeyedQuota, keys };
}

/**
 * Fills the zone, and keeps it as the listings are. Built beside it, some at a time: with millions the node
 * goes on doing other things, and what changes meanwhile comes behind the rest, for a change has a new seq.
 *
 * @returns what ends it
 */
async function followListings(zone: Zone, listings: Listings, count: Count): Promise<() => void> {
  const { TableBuilder } = await import('../dnsbl/table/builder.ts');
  const builder = new TableBuilder({ apex: zone.apex, expect: listings.rows });
  let seq = 0;
  for (;;) {
    const page = listings.since(seq, PAGE);
    for (const listing of page) if (!builder.add(listing)) count('listings_unlistable');
    const last = page.at(-1);
    if (!last) break;
    seq = last.seq;
    await nextTurn();
  }
  // In the turn of the empty page, so nothing changes between the two.
  zone.adopt(builder.finish());
  return listings.onChange((listing) => {
    if (zone.apply(listing) === 'unlistable') count('listings_unlistable');
  });
}
