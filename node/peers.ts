/**
 * The composition of peers: the list of them, what an operator does about them, and its place on the control socket.
 *
 * Belongs to node.ts; a command beside a node that does not run composes the same without an AppView.
 */
import type { AppView, PeerStatus } from '../appview/appview.ts';
import type { Identities } from '../appview/identity/did.ts';
import type { SignalPeer } from '../appview/listing/signals.ts';
import type { Config } from './config.ts';
import { PeerBook } from './cooperative/peer-book.ts';
import { type Following, Peers, type PeersOptions } from './cooperative/peers.ts';
import type { RecordEvents } from './enforcement/event-log.ts';
import type { Resolver } from './resolver.ts';
import type { Membership } from './state.ts';

/** What is known of the streams of one peer. */
export type ReadPeer = PeerStatus & { privateChannel?: SignalPeer };

export type PrivateChannels = {
  /** Undefined where it is not read. */
  status(did: string): SignalPeer | undefined;
  /** @returns false where nothing is quarantined */
  release(did: string): boolean;
};

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
    /** Of those that we guarantee or endorse. */
    privateChannels?: PrivateChannels;
    record?: RecordEvents;
  },
): Peers<ReadPeer> {
  const { book, identities, resolver, now, appview, record, privateChannels } = o;
  const own = { did: config.did, poolDomain: config.domain };
  return new Peers({
    ...{ book, own, identities, resolver, now },
    ...(appview && { following: following(appview, privateChannels) }),
    ...(record && { record: staffActs(config.did, record) }),
  });
}

/** One release ends both: of the labels' stream and of the private channel. */
function following(appview: AppView, channels: PrivateChannels | undefined): Following<ReadPeer> {
  return {
    follow: (did, labelKey) => appview.follow(did, { ...(labelKey !== undefined && { labelKey }) }),
    unfollow: (did) => appview.unfollow(did),
    setRoots: (dids) => appview.setRoots(dids),
    peerStatus: (did) => {
      const status = appview.peerStatus(did);
      const privateChannel = channels?.status(did);
      return status && { ...status, ...(privateChannel && { privateChannel }) };
    },
    trustPeerKey: (did) => appview.trustPeerKey(did),
    releasePeer: (did) => [appview.releasePeer(did), channels?.release(did)].includes(true),
  };
}

function staffActs(did: string, record: RecordEvents): PeersOptions<ReadPeer>['record'] {
  return ({ by: actor, ...act }, change) =>
    record({ type: 'staff_act', did, detail: { ...act, by: 'person', actor } }, change);
}
