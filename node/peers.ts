/**
 * The composition of peers: the list of them, what an operator does about them, and its place on the control socket.
 *
 * Belongs to node.ts; a command beside a node that does not run composes the same without an AppView.
 */
import type { AppView, PeerStatus } from '../appview/appview.ts';
import type { Identities } from '../appview/identity/did.ts';
import type { Config } from './config.ts';
import { PeerBook } from './cooperative/peer-book.ts';
import { type Following, Peers, type PeersOptions } from './cooperative/peers.ts';
import type { RecordEvents } from './enforcement/event-log.ts';
import type { Resolver } from './resolver.ts';
import type { Membership } from './state.ts';

export function peerBook(config: Config, { db }: Membership, now: () => number): PeerBook {
  return new PeerBook({ db, configured: config.peers, now });
}

/**
 * @param o.appview where labels are read: acts take effect there
 * @param o.record where mail is relayed, and with it an event log
 */
export function openPeers(
  config: Config,
  o: {
    book: PeerBook;
    identities: Identities;
    resolver: Resolver;
    now: () => number;
    appview?: AppView;
    /** Ends the quarantine of a peer's private channel. */
    releaseSignals?: (did: string) => boolean;
    record?: RecordEvents;
  },
): Peers<PeerStatus> {
  const { book, identities, resolver, now, appview, record, releaseSignals = () => false } = o;
  const own = { did: config.did, poolDomain: config.domain };
  return new Peers({
    ...{ book, own, identities, resolver, now },
    ...(appview && { following: following(appview, releaseSignals) }),
    ...(record && { record: staffActs(config.did, record) }),
  });
}

/** One release ends both: of the labels' stream and of the private channel. */
function following(appview: AppView, releaseSignals: (did: string) => boolean): Following<PeerStatus> {
  return {
    follow: (did) => appview.follow(did),
    unfollow: (did) => appview.unfollow(did),
    setRoots: (dids) => appview.setRoots(dids),
    peerStatus: (did) => appview.peerStatus(did),
    trustPeerKey: (did) => appview.trustPeerKey(did),
    releasePeer: (did) => [appview.releasePeer(did), releaseSignals(did)].includes(true),
  };
}

function staffActs(did: string, record: RecordEvents): PeersOptions<PeerStatus>['record'] {
  return ({ by: actor, ...act }, change) =>
    record({ type: 'staff_act', did, detail: { ...act, by: 'person', actor } }, change);
}
