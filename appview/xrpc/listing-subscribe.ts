/**
 * `email.atmos.listing.subscribe`: every change of a listing, in order of seq.
 *
 * Promise: a follower that keeps the seq of the last message misses nothing, at any speed. The rows
 * themselves are the queue, each with its newest state: a slow follower costs no memory and skips what
 * has changed again meanwhile. One whose cursor is of an AppView that was thrown away is told so, and
 * gets everything.
 */
import { InvalidRequestError, type Server, XRPCError } from '@atproto/xrpc-server';
import type { Listing } from '../../dnsbl/listing.ts';
import { email } from '../../lexicons/index.ts';

/** What this file needs of the listings. */
export type ListingFeed = {
  readonly last: number;
  readonly epoch: number;
  since(seq: number, limit: number): Listing[];
  onChange(callback: (listing: Listing) => void): () => void;
};

type Message = email.atmos.listing.subscribe.$Message;

const maxFollowers = 256;
const listingsPerMessage = 200;

export function registerListingSubscribe(server: Server, listings: ListingFeed): void {
  let followers = 0;
  server.add(email.atmos.listing.subscribe.main, async function* ({ params, signal }) {
    if (followers >= maxFollowers) throw new XRPCError(503, 'Too many followers.', 'TooManyFollowers');
    followers += 1;
    try {
      yield* follow(listings, params.cursor, signal);
    } finally {
      followers -= 1;
    }
  });
}

async function* follow(
  listings: ListingFeed,
  cursor: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  const head = listings.last;
  if (cursor !== undefined && cursor > head) {
    throw new InvalidRequestError(`The newest seq is ${head}.`, 'FutureCursor');
  }
  const outdated = cursor !== undefined && cursor > 0 && cursor < listings.epoch;
  if (outdated) yield outdatedCursor;
  const fromStart = outdated || cursor === 0;
  let seq = fromStart ? 0 : (cursor ?? head);
  let isUpToDate = false;
  while (!signal.aborted) {
    const batch = listings.since(seq, listingsPerMessage);
    seq = batch.at(-1)?.seq ?? seq;
    // One who begins has nothing to forget.
    const news = fromStart ? batch.filter((listing) => !(listing.removed && listing.seq <= head)) : batch;
    if (news.length > 0) yield message(seq, news);
    if (batch.length > 0) continue;
    // It cannot be seen from the listings: the last ones may have been removed, and there may be none.
    if (!isUpToDate) yield upToDate;
    else await nextChange(listings, signal);
    isUpToDate = true;
  }
}

const outdatedCursor: Message = {
  $type: 'email.atmos.listing.subscribe#info',
  name: 'OutdatedCursor',
  message: 'This AppView was rebuilt: forget everything; all current listings follow.',
};

const upToDate: Message = { $type: 'email.atmos.listing.subscribe#info', name: 'UpToDate' };

// As in listing-get.ts: narrower strings, checked by xrpc-server on the way out.
function message(seq: number, listings: Listing[]): Message {
  return { $type: 'email.atmos.listing.subscribe#listings', seq, listings } as Message;
}

/** Resolves with the next change, or when the follower is gone. */
function nextChange(listings: ListingFeed, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      unfollow();
      signal.removeEventListener('abort', wake);
      resolve();
    };
    const unfollow = listings.onChange(wake);
    signal.addEventListener('abort', wake);
  });
}
