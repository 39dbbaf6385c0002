/**
 * From a listing to the six words of a value, its text being a template shared with its like.
 *
 * A template holds what many listings have in common: reason, vouchers, and the URL around the listed
 * name where it has one. With the DID and the name it makes the TXT again (text.ts), octet by octet.
 */
import { isIPv4 } from 'node:net';
import { MAX_TEXT_OCTETS, TEXT_BUDGET_OCTETS } from '../limits.ts';
import type { ForeignAnswer, Listing } from '../listing.ts';
import { MAX_KEY_LENGTH } from '../name.ts';
import { v6Text } from './address-text.ts';
import { FORM, type Place } from './place.ts';
import { MAX_INTERNED_OCTETS } from './room.ts';
import { TEMPLATE, type Texts } from './texts.ts';
import { FLAG, FOREIGN_TRUST, setFlags, setPlc } from './values.ts';

const PLC = 'did:plc:';
const PLC_LENGTH = 32;
/** Templates looked through before one is put together. */
const MAX_RECENT = 64;

export class Templates {
  readonly fields = new Int32Array(6);
  readonly #texts: Texts;
  readonly #scratch = Buffer.alloc(MAX_INTERNED_OCTETS);
  readonly #recent: Like[] = [];

  constructor(texts: Texts) {
    this.#texts = texts;
  }

  /** Fills `fields` from a listing that isShort(). The texts must have room. */
  read(listing: Listing, place: Place): void {
    if (listing.foreign) {
      this.#readForeign(listing.foreign, listing, place);
      return;
    }
    const isPlc = this.#readDid(listing.did);
    this.fields[1] = this.#templateOf(listing, place);
    this.#readFlags(listing, place, isPlc ? FLAG.plc : 0);
  }

  #readForeign({ address, text }: ForeignAnswer, listing: Listing, place: Place): void {
    this.fields.fill(0);
    this.fields[1] = text === undefined ? 0 : this.#texts.intern(this.#scratch, this.#scratch.write(text));
    const [, a = 0, b = 0, c = 0] = address.split('.').map(Number);
    this.fields[2] = (a << 16) | (b << 8) | c;
    const flags = FLAG.foreign | (place.blocked ? FLAG.blocked : 0);
    const isName = place.form === FORM.name;
    const mailTypes = isName && !place.blocked && place.fitsVouch ? mailIndex(listing.mailTypes) : 0;
    setFlags(this.fields, 0, FOREIGN_TRUST, mailTypes, isName && listing.coverSubdomains, flags);
  }

  /** Only what shows in an answer: two listings that answer alike have the same flags. */
  #readFlags(listing: Listing, place: Place, flags: number): void {
    const covers = listing.coverSubdomains && place.form === FORM.name;
    const vouches = place.form === FORM.name && place.fitsVouch && listing.trust >= 1;
    const mailTypes = vouches ? mailIndex(listing.mailTypes) : 0;
    if (place.blocked) setFlags(this.fields, 0, 0, 0, covers, FLAG.blocked | flags);
    else setFlags(this.fields, listing.kind, listing.trust, mailTypes, covers, flags);
  }

  #readDid(did: string): boolean {
    this.fields.fill(0);
    if (did.length === PLC_LENGTH && did.startsWith(PLC)) {
      for (let at = PLC.length; at < PLC_LENGTH; at++) this.#scratch[at] = Math.min(did.charCodeAt(at), 255);
      if (setPlc(this.fields, this.#scratch, PLC.length)) return true;
      this.fields.fill(0);
    }
    this.fields[2] = this.#texts.intern(this.#scratch, this.#scratch.write(did));
    return false;
  }

  #templateOf(listing: Listing, place: Place): number {
    const name = place.form === FORM.v6 ? v6Text(place.v6) : (listing.name ?? listing.address ?? '');
    for (const recent of this.#recent) if (isLike(recent, listing, name)) return recent.template;
    const like = this.#newLike(listing, name);
    this.#recent.unshift(like);
    if (this.#recent.length > MAX_RECENT) this.#recent.pop();
    return like.template;
  }

  #newLike({ list, reason, vouchers, url }: Listing, name: string): Like {
    const at = url.lastIndexOf(name);
    const prefix = at < 0 ? url : url.slice(0, at);
    const suffix = at < 0 ? '' : url.slice(at + name.length);
    const head = list === 'blocked' ? `reason=${reason ?? 'unspecified'} did=` : 'did=';
    const template = this.#intern(at >= 0, head, joinedVouchers(vouchers), prefix, suffix);
    return { template, list, reason, vouchers: [...vouchers], named: at >= 0, prefix, suffix };
  }

  #intern(named: boolean, head: string, vouchers: string, prefix: string, suffix: string): number {
    const scratch = this.#scratch;
    scratch[TEMPLATE.named] = Number(named);
    let at: number = TEMPLATE.pieces;
    [head, vouchers, prefix, suffix].forEach((piece, index) => {
      const octets = scratch.write(piece, at);
      scratch.writeUInt16LE(octets, TEMPLATE.head + 2 * index);
      at += octets;
    });
    return this.#texts.intern(scratch, at);
  }
}

/** What the listings of one template have in common. */
type Like = {
  template: number;
  list: Listing['list'];
  reason: string | undefined;
  vouchers: string[];
  named: boolean;
  prefix: string;
  suffix: string;
};

function isLike(like: Like, { list, reason, vouchers, url }: Listing, name: string): boolean {
  const { prefix, suffix } = like;
  const middle = like.named ? name : '';
  return (
    url.length === prefix.length + middle.length + suffix.length &&
    list === like.list &&
    reason === like.reason &&
    sameTexts(vouchers, like.vouchers) &&
    url.startsWith(prefix) &&
    url.endsWith(suffix) &&
    url.startsWith(middle, prefix.length)
  );
}

/** Whole vouchers from the front, as many as the budget could hold: text.ts shortens further. */
function joinedVouchers(vouchers: readonly string[]): string {
  let joined = '';
  for (const voucher of vouchers) {
    const longer = joined === '' ? voucher : `${joined},${voucher}`;
    if (Buffer.byteLength(longer) > TEXT_BUDGET_OCTETS) break;
    joined = longer;
  }
  return joined;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** Even the text without vouchers, `reason=… did=… url=…`, must not be endless. */
export function isShort({ list, reason = 'unspecified', did, url, foreign }: Listing): boolean {
  if (foreign) return isShortForeign(foreign);
  const fixed = list === 'blocked' ? 'reason= did= url='.length : 'did= url='.length;
  const letters = fixed + did.length + url.length + (list === 'blocked' ? reason.length : 0);
  // A letter is at most three octets in UTF-8, so what is short enough need not be measured.
  if (letters * 3 <= MAX_TEXT_OCTETS) return true;
  if (letters > MAX_TEXT_OCTETS) return false;
  const why = list === 'blocked' ? Buffer.byteLength(reason) : 0;
  return fixed + Buffer.byteLength(did) + Buffer.byteLength(url) + why <= MAX_TEXT_OCTETS;
}

/** Also with the longest name in each of its places; `$$` is one dollar. */
function isShortForeign({ address, text = '' }: ForeignAnswer): boolean {
  const unescaped = text.replaceAll('$$', '');
  const dollars = (text.length - unescaped.length) / 2;
  const places = unescaped.split('$').length - 1;
  const octets = Buffer.byteLength(text) - dollars + places * MAX_KEY_LENGTH;
  return isCode(address) && octets <= MAX_TEXT_OCTETS;
}

/** RFC 5782 §2.1: an address in 127.0.0.0/8, never one that someone may have. */
function isCode(address: string): boolean {
  return isIPv4(address) && address.startsWith('127.');
}

function mailIndex(mailTypes: Listing['mailTypes']): number {
  const transaction = mailTypes.indexOf('transaction');
  const list = mailTypes.indexOf('list');
  if (transaction < 0) return list < 0 ? 0 : 2;
  if (list < 0) return 1;
  return transaction < list ? 3 : 4;
}
