/**
 * Whose turn it is: the mail of one member for one site waits in a lane, and the lanes take turns.
 *
 * A lane's turn is the due time of its first recipient, or when it was last served if that is later; the
 * lowest turn comes first. So a lane with ten thousand goes behind all others after each one of them.
 *
 * Sites and members without room are passed over. A lane stands in the group of its site or in that of its
 * member; one that is found blocked by the other moves there, and a blocked group is set aside in whole.
 * So a question costs what is asked for and excepted, not what waits. Memory: some 300 bytes a lane.
 */
import { Heap, type Placed } from './heap.ts';

/** A recipient that waits, unclaimed: its seq and when it is due. */
export type Head = { seq: number; at: number };

export type Lane = Placed & {
  readonly site: string;
  readonly did: string;
  /** The first that wait, in order; `complete`: all that wait. */
  heads: Head[];
  complete: boolean;
  /** Claimed and not yet settled or released. */
  flying: number;
  /** When it was last served, Unix ms. */
  served: number;
  /** Undefined while nothing waits in it. */
  group: Group | undefined;
};

type Group = Placed & { readonly of: 'site' | 'member'; readonly lanes: Heap<Lane>; isAside: boolean };

export type Blocked = { sites: ReadonlySet<string>; members: ReadonlySet<string> };

export class Lanes {
  /** By member, then by site. */
  readonly #lanes = new Map<string, Map<string, Lane>>();
  readonly #groups = { site: new Map<string, Group>(), member: new Map<string, Group>() };
  readonly #open = new Heap<Group>();
  readonly #aside = new Set<Group>();
  #order = 0;

  get(site: string, did: string): Lane | undefined {
    return this.#lanes.get(did)?.get(site);
  }

  /** The lane, made when there is none; nothing waits in a new one. */
  at(site: string, did: string): Lane {
    const known = this.get(site, did);
    if (known) return known;
    const lane = newLane(site, did);
    const ofMember = this.#lanes.get(did);
    if (ofMember) ofMember.set(site, lane);
    else this.#lanes.set(did, new Map([[site, lane]]));
    return lane;
  }

  /** Its first is due at `at`; undefined: nothing waits in it. */
  waits(lane: Lane, at: number | undefined): void {
    if (at === undefined) {
      this.#leave(lane);
      if (lane.flying === 0) this.#forget(lane);
      return;
    }
    const turn = Math.max(at, lane.served);
    if (!lane.group || lane.turn !== turn) this.#rank(lane, turn);
  }

  /** The lane whose turn is first of those that are not blocked; it stays where it is. */
  first(blocked: Blocked): Lane | undefined {
    this.#bringBack(blocked);
    for (;;) {
      const group = this.#open.first;
      if (!group) return undefined;
      const lane = group.lanes.first!;
      if (isBlocked(lane, group.of, blocked)) this.#setAside(group);
      else if (isBlocked(lane, other(group.of), blocked)) this.#move(lane, other(group.of));
      else return lane;
    }
  }

  /** Served now: behind all others that are due. @param next when its next one is due, if there is one */
  served(lane: Lane, now: number, next: number | undefined): void {
    lane.served = now;
    if (next === undefined) this.waits(lane, undefined);
    else this.#rank(lane, Math.max(next, now));
  }

  clear(): void {
    for (const all of [this.#lanes, this.#groups.site, this.#groups.member, this.#aside]) all.clear();
    while (this.#open.first) this.#open.remove(this.#open.first);
  }

  #rank(lane: Lane, turn: number): void {
    lane.turn = turn;
    lane.order = ++this.#order;
    if (lane.group) this.#reordered(lane.group, () => lane.group!.lanes.moved(lane));
    else this.#join(lane, 'site');
  }

  #bringBack(blocked: Blocked): void {
    for (const group of this.#aside) {
      if (isBlocked(group.lanes.first!, group.of, blocked)) continue;
      this.#aside.delete(group);
      group.isAside = false;
      this.#open.add(group);
    }
  }

  #setAside(group: Group): void {
    this.#open.remove(group);
    group.isAside = true;
    this.#aside.add(group);
  }

  #move(lane: Lane, to: Group['of']): void {
    this.#leave(lane);
    this.#join(lane, to);
  }

  #join(lane: Lane, of: Group['of']): void {
    const name = of === 'site' ? lane.site : lane.did;
    let group = this.#groups[of].get(name);
    if (!group) {
      group = { of, lanes: new Heap(), isAside: false, turn: lane.turn, order: lane.order, place: -1 };
      this.#groups[of].set(name, group);
      this.#open.add(group);
    }
    lane.group = group;
    const { lanes } = group;
    this.#reordered(group, () => lanes.add(lane));
  }

  #forget({ site, did }: Lane): void {
    const ofMember = this.#lanes.get(did);
    ofMember?.delete(site);
    if (ofMember?.size === 0) this.#lanes.delete(did);
  }

  #leave(lane: Lane): void {
    const { group } = lane;
    if (!group) return;
    lane.group = undefined;
    if (group.lanes.size > 1) {
      this.#reordered(group, () => group.lanes.remove(lane));
      return;
    }
    group.lanes.remove(lane);
    this.#groups[group.of].delete(group.of === 'site' ? lane.site : lane.did);
    if (group.isAside) this.#aside.delete(group);
    else this.#open.remove(group);
  }

  /** A group's turn is that of its first lane. */
  #reordered(group: Group, change: () => void): void {
    change();
    const { turn, order } = group.lanes.first!;
    if (group.turn === turn && group.order === order) return;
    group.turn = turn;
    group.order = order;
    if (!group.isAside) this.#open.moved(group);
  }
}

/** Lanes whose first ones were not looked up share it. */
const none: Head[] = [];

/** Written out: there may be a hundred thousand. */
function newLane(site: string, did: string): Lane {
  return {
    turn: 0,
    order: 0,
    place: -1,
    site,
    did,
    heads: none,
    complete: true,
    flying: 0,
    served: 0,
    group: undefined,
  };
}

function other(of: Group['of']): Group['of'] {
  return of === 'site' ? 'member' : 'site';
}

function isBlocked({ site, did }: Lane, by: Group['of'], { sites, members }: Blocked): boolean {
  return by === 'site' ? sites.has(site) : members.has(did);
}
