/**
 * What an operator does about peers: look before, add, list, show, take another stance, remove.
 *
 * Promise: an act is in node.db before it takes effect, takes effect before it returns, and says why when it
 * is refused. Only what the peer's own keys signed is shown, and only what was shown is agreed to. A stance
 * means: `guarantee`: its votes are ours; `endorse`, `hesitate`: its labels are read and count nothing;
 * `censure`: they are not read.
 *
 * The command line and the pages call these functions; they hold no rule of their own.
 */
import type { Identities } from '../../appview/identity/did.ts';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import type { Resolver } from '../resolver.ts';
import type { DeclaredThen, Peer, PeerBook, Saying, Stance } from './peer-book.ts';
import { maxPeers } from './peer-book.ts';
import { didNamed, isDid, type LabelerIdentity, labelerNamed } from './peer-name.ts';
import { PeerRefused } from './peer-refusal.ts';
import type { PeerPreview } from './preview.ts';

/** For all that one act reads of a peer. */
const readingMs = 60_000;

/** The AppView of this node. */
export interface Following<Status> {
  /** @param labelKey the `did:key` that was shown; absent: the first one seen is trusted */
  follow(did: string, labelKey: string | undefined): void;
  unfollow(did: string): Promise<void>;
  setRoots(dids: readonly string[]): Promise<void>;
  /** Undefined where it is not followed. */
  peerStatus(did: string): Status | undefined;
  /** Resolves with how many labels had waited; undefined where no new key waits. */
  trustPeerKey(did: string): Promise<number | undefined>;
  /** @returns false where nothing is quarantined */
  releasePeer(did: string): boolean;
}

export type PeersOptions<Status> = {
  book: PeerBook;
  /** Us. */
  own: { did: string; poolDomain: string };
  identities: Identities;
  resolver: Pick<Resolver, 'txt'>;
  now: () => number;
  /** Absent: this node reads no labels, or does not run. */
  following?: Following<Status>;
  /** Where acts are remembered: in one commit with the act, or else the act alone. */
  record?: (act: PeerAct, change: () => void) => void;
};

export type PeerAct = { act: string; peer: string; by: string; stance?: Stance; reason?: string };

export type NewPeer = Saying & {
  /** A domain or a DID. */
  name: string;
  /** The label key that was shown: with another one the peer is not added. */
  labelKey?: string;
};

export class Peers<Status = unknown> {
  readonly #options: PeersOptions<Status>;

  constructor(options: PeersOptions<Status>) {
    this.#options = options;
  }

  /** What would be trusted. Asks the network, for about a minute at most. @throws PeerRefused */
  async preview(name: string): Promise<PeerPreview> {
    return this.#previewed(await this.#newLabeler(name));
  }

  /** A censure needs no declaration: it trusts nothing. @throws PeerRefused */
  async add({ name, labelKey, ...saying }: NewPeer): Promise<Peer> {
    const { did, declared } = saying.stance === 'censure' ? await this.#unread(name) : await this.#read(name);
    if (labelKey !== undefined && declared?.labelKey !== labelKey)
      throw new PeerRefused(
        'changed',
        `${did} has another label key than the one that was shown. Look again.`,
      );
    const { book } = this.#options;
    this.#refuseKnown(did);
    this.#record({ act: 'peer_added', peer: did, ...saying }, () => book.add(did, saying, declared));
    const peer = book.get(did)!;
    await this.#takeEffect(did);
    return peer;
  }

  list(): (Peer & { status?: Status })[] {
    return this.#options.book.all().map((peer) => this.#withStatus(peer));
  }

  /** @param name a DID, or the domain of a peer. @throws PeerRefused not-a-peer */
  show(name: string): Peer & { status?: Status } {
    return this.#withStatus(this.#known(name));
  }

  /** Without a reason or evidence the earlier ones stay as long as the stance does. @throws PeerRefused */
  async setStance(name: string, wanted: Omit<Saying, 'evidence'> & { evidence?: string[] }): Promise<Peer> {
    const peer = this.#changeable(name);
    const { book } = this.#options;
    const before = peer.stance === wanted.stance ? peer : { evidence: [] };
    const saying: Saying = {
      evidence: before.evidence,
      ...('reason' in before && { reason: before.reason }),
      ...defined(wanted),
    };
    // What was censured unread is trusted only after it was read.
    const declared =
      peer.declared || wanted.stance === 'censure' ? undefined : await this.#declaredBy(peer.did);
    this.#record({ act: 'peer_stance', peer: peer.did, ...saying }, () => {
      if (!book.say(peer.did, saying, declared)) throw notAPeer(name);
    });
    const changed = book.get(peer.did)!;
    await this.#takeEffect(peer.did);
    return changed;
  }

  /** Its votes count no more when this resolves; what we stored of it goes in the background. @throws PeerRefused */
  async remove(name: string, { by, reason }: { by: string; reason?: string }): Promise<Peer> {
    const peer = this.#changeable(name);
    const act: PeerAct = { act: 'peer_removed', peer: peer.did, by, ...(reason !== undefined && { reason }) };
    this.#record(act, () => void this.#options.book.remove(peer.did));
    await this.#takeEffect(peer.did);
    return peer;
  }

  /** Its new label key counts now, without the waiting time. @throws PeerRefused */
  async trustKey(name: string, by: string): Promise<Peer> {
    const { peer, following } = this.#followed(name);
    if ((await following.trustPeerKey(peer.did)) === undefined)
      throw new PeerRefused('nothing-to-do', `${peer.did} has no new label key that waits.`);
    this.#record({ act: 'peer_key_trusted', peer: peer.did, by }, () => undefined);
    return peer;
  }

  /** Ends a quarantine: its stream is read again. @throws PeerRefused */
  release(name: string, by: string): Peer {
    const { peer, following } = this.#followed(name);
    if (!following.releasePeer(peer.did))
      throw new PeerRefused('nothing-to-do', `${peer.did} is not quarantined.`);
    this.#record({ act: 'peer_released', peer: peer.did, by }, () => undefined);
    return peer;
  }

  #followed(name: string): { peer: Peer; following: Following<Status> } {
    const { following } = this.#options;
    const peer = this.#known(name);
    if (!following) throw new PeerRefused('unavailable', 'only the running node can do that.');
    return { peer, following };
  }

  async #read(name: string): Promise<{ did: string; declared: DeclaredThen }> {
    const preview = await this.preview(name);
    return { did: preview.did, declared: declaredThen(preview) };
  }

  /** A name that leads nowhere is refused; a DID needs no document to be censured. */
  async #unread(name: string): Promise<{ did: string; declared: DeclaredThen | undefined }> {
    try {
      return await this.#read(name);
    } catch (error) {
      const isHard =
        error instanceof PeerRefused && ['own', 'already-a-peer', 'too-many'].includes(error.code);
      if (isHard || !(error instanceof PeerRefused)) throw error;
      const { did } = isDid(name) ? { did: didNamed(name)! } : await labelerNamed(name, this.#options);
      return { did, declared: undefined };
    }
  }

  async #declaredBy(did: string): Promise<DeclaredThen> {
    return declaredThen(await this.#previewed(await labelerNamed(did, this.#options)));
  }

  async #previewed(identity: LabelerIdentity): Promise<PeerPreview> {
    // Loaded here, since few runs of a node read a peer's declaration.
    const { readDeclared } = await import('./declared.ts');
    const { offerOf, previewOf } = await import('./preview.ts');
    const fetch = this.#boundedFetch();
    const declared = await readDeclared(identity, { fetch, now: this.#options.now });
    if (declared.cooperative.poolDomain === this.#options.own.poolDomain)
      throw new PeerRefused('bad-declaration', `${identity.did} declares our own pool domain.`);
    return previewOf(identity, declared, await offerOf(identity, fetch));
  }

  /** A peer that answers slowly, a thousand times, is not waited for. */
  #boundedFetch(): GuardedFetch {
    const { fetch } = this.#options.identities;
    const signal = AbortSignal.timeout(readingMs);
    return (url, init) => fetch(url, { ...init, signal });
  }

  async #newLabeler(name: string): Promise<LabelerIdentity> {
    const guess = didNamed(name);
    if (guess) this.#refuseKnown(guess);
    const identity = await labelerNamed(name, this.#options);
    this.#refuseKnown(identity.did);
    return identity;
  }

  #refuseKnown(did: string): void {
    const { book, own } = this.#options;
    if (did === own.did) throw new PeerRefused('own', `${did} is this cooperative, and not its own peer.`);
    const known = book.get(did);
    if (known?.from === 'configuration')
      throw new PeerRefused(
        'already-a-peer',
        `${did} is a peer already: the configuration has it with the stance ${known.stance}.`,
      );
    if (known)
      throw new PeerRefused(
        'already-a-peer',
        `${did} is a peer already, with the stance ${known.stance}. Change that with: atmos peer stance`,
      );
    if (book.all().length >= maxPeers)
      throw new PeerRefused('too-many', `there are ${maxPeers} peers already.`);
  }

  #known(name: string): Peer {
    const { book } = this.#options;
    const did = didNamed(name);
    const peer = book.find(name) ?? (did ? book.get(did) : undefined);
    if (!peer) throw notAPeer(name);
    return peer;
  }

  #changeable(name: string): Peer {
    const peer = this.#known(name);
    if (peer.from === 'configuration')
      throw new PeerRefused(
        'configured',
        `${peer.did} stands in the configuration. Change it there, and start the node again.`,
      );
    return peer;
  }

  #withStatus(peer: Peer): Peer & { status?: Status } {
    const status = this.#options.following?.peerStatus(peer.did);
    return status === undefined ? peer : { ...peer, status };
  }

  #record({ act, peer, by, stance, reason }: PeerAct, change: () => void): void {
    const { record = (_act, alone) => alone() } = this.#options;
    record({ act, peer, by, ...(stance && { stance }), ...(reason !== undefined && { reason }) }, change);
  }

  /** What the book says after each step decides the next: another act may have come between. */
  async #takeEffect(did: string): Promise<void> {
    const { book, following } = this.#options;
    if (!following) return;
    // Weight goes first, then the stream: at no moment does anything count that must not.
    await following.setRoots(rootsOf(book.all()));
    const peer = book.get(did);
    if (peer && isRead(peer)) following.follow(did, peer.declared?.labelKey);
    else await following.unfollow(did);
  }
}

/** Whose votes are ours. */
export function rootsOf(peers: readonly Peer[]): string[] {
  return peers.filter(({ stance }) => stance === 'guarantee').map(({ did }) => did);
}

/** Whom we censure we do not even read. */
export function isRead({ stance }: Peer): boolean {
  return stance !== 'censure';
}

function declaredThen({ name, poolDomain, labeler, labelKey }: PeerPreview): DeclaredThen {
  return { name, poolDomain, labeler, labelKey };
}

function notAPeer(name: string): PeerRefused {
  return new PeerRefused('not-a-peer', `${name} is no peer of ours. The peers: atmos peer list`);
}

function defined<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}
