/**
 * Gives the memory of a large table back soon after another took its place.
 *
 * Shared memory goes back when the last thread forgets it, and a thread forgets in a full garbage collection.
 * Ours allocate next to nothing, and the engine does not count shared memory, so one may be hours away: three
 * reloads of a large zone would hold four tables. So who lets go of a large one asks for a collection, which
 * Node offers in no other way than by `--expose-gc`, here switched on for the one function that it exposes.
 *
 * An answering thread has a small heap and is done within a few milliseconds. The owner's thread comes a
 * second later and is thus the last, the one that pays for giving the memory back.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { HEADER, type ZoneShare } from './share.ts';

/** Listings, about 60 octets each: less is not worth a collection. */
const LARGE = 100_000;
const OWNER_DELAY_MS = 1000;

let collect: (() => void) | undefined;
let isPlanned = false;

/** For an answering thread that has taken a new table of this zone. */
export function letGo({ header }: ZoneShare): void {
  plan(Atomics.load(new Int32Array(header), HEADER.letGoSize), (then) => void setImmediate(then));
}

/** For the owner's thread. @param listings in the table that it does not know any more */
export function letGoLast(listings: number): void {
  plan(listings, (then) => setTimeout(then, OWNER_DELAY_MS).unref());
}

/** For what takes a new table only with its next question, which may be long in coming: has it do so in time. */
export function beforeTheLast(listings: number, take: () => void): void {
  if (listings >= LARGE) setTimeout(take, OWNER_DELAY_MS / 2).unref();
}

/** Not at once: whoever calls has it in hand still. */
function plan(listings: number, later: (then: () => void) => void): void {
  if (isPlanned || listings < LARGE) return;
  isPlanned = true;
  later(forget);
}

function forget(): void {
  isPlanned = false;
  collect ??= exposed();
  collect();
}

function exposed(): () => void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  return gc;
}
