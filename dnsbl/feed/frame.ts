/**
 * One message of `email.atmos.listing.subscribe`, checked against its lexicon.
 *
 * Promise: whatever the octets, a message or undefined, never a throw. A listing that breaks the lexicon
 * costs its neighbours nothing.
 * https://atproto.com/specs/event-stream
 */
import { decodeAll } from '@atproto/lex-cbor';
import { email } from '../../lexicons/index.ts';
import type { Listing } from '../listing.ts';

export type FeedMessage =
  | { kind: 'listings'; seq: number; listings: Listing[]; malformed: number }
  | { kind: 'info'; name: string }
  /** The other side closes the stream after it. */
  | { kind: 'error'; name: string }
  /** Of a later protocol. */
  | { kind: 'unknown' };

/** Two hundred listings with sixty-four vouchers each, and more. */
export const MAX_FRAME_OCTETS = 8 * 1024 * 1024;

export function decodeFeedMessage(octets: Uint8Array): FeedMessage | undefined {
  if (octets.length > MAX_FRAME_OCTETS) return undefined;
  try {
    const items = decodeAll(octets);
    const [header, body] = [items.next().value, items.next().value];
    return items.next().done && isMap(header) && isMap(body) ? messageOf(header, body) : undefined;
  } catch {
    return undefined;
  }
}

function messageOf(header: Record<string, unknown>, body: Record<string, unknown>): FeedMessage | undefined {
  if (header.op === -1)
    return typeof body.error === 'string' ? { kind: 'error', name: body.error } : undefined;
  if (header.op !== 1) return undefined;
  if (header.t === '#info')
    return typeof body.name === 'string' ? { kind: 'info', name: body.name } : undefined;
  if (header.t !== '#listings') return { kind: 'unknown' };
  const { seq, listings } = body;
  if (!Number.isSafeInteger(seq) || !Array.isArray(listings)) return undefined;
  const read = listings.map(listingOf);
  const good = read.filter((listing) => listing !== undefined);
  return { kind: 'listings', seq: seq as number, listings: good, malformed: read.length - good.length };
}

/** @returns undefined for what breaks the lexicon, or is listed in a way that we do not know */
function listingOf(value: unknown): Listing | undefined {
  if (!email.atmos.listing.defs.listing.matches(value)) return undefined;
  const { name, address, list, kind, trust, mailTypes, reason, coverSubdomains, did } = value;
  const { vouchers, url, seq, removed } = value;
  const isOneThing = (name === undefined) !== (address === undefined);
  if (!isOneThing || (list !== 'vouched' && list !== 'blocked')) return undefined;
  if ([did, url, reason ?? '', ...vouchers].some(hasControls)) return undefined;
  return {
    ...(name === undefined ? { address: String(address) } : { name }),
    ...{ coverSubdomains, did, vouchers, url, seq },
    list: list as Listing['list'],
    kind: kind as Listing['kind'],
    trust: trust as Listing['trust'],
    mailTypes: mailTypes.filter(isMailType),
    ...(reason !== undefined && { reason }),
    ...(removed === true && { removed }),
  };
}

function isMailType(type: string): type is Listing['mailTypes'][number] {
  return type === 'transaction' || type === 'list';
}

/** No text has them, and no line of a file could hold them. */
function hasControls(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what it looks for.
  return /[\u0000-\u001f\u007f]/.test(text);
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
