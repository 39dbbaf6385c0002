/**
 * One entry of the zone, as the AppView decides it and the DNS server answers it.
 *
 * The AppView makes these, the feed `email.atmos.listing.subscribe` carries them in the same shape
 * (lexicon email.atmos.listing.defs#listing), and a zone is nothing but the set of them.
 */

/** 2 cooperative relay, 3 member sending through a relay, 4 member sending directly. */
export type Kind = 2 | 3 | 4;

/** dnswl.org's scale: 0 none, 1 low, 2 medium, 3 high. */
export type Trust = 0 | 1 | 2 | 3;

export type Listing = {
  /** A domain in A-label form, lower case. Exactly one of `name` and `address` is present. */
  name?: string;
  /** One IPv4 or IPv6 address in its canonical text form. */
  address?: string;
  list: 'vouched' | 'blocked';
  kind: Kind;
  trust: Trust;
  mailTypes: ('transaction' | 'list')[];
  /** Why it is blocked: a public reason code. Absent on a vouched entry. */
  reason?: string;
  /** RFC 4592: `*.<name>` answers beside `<name>`. */
  coverSubdomains: boolean;
  /** The DID that attested the name. */
  did: string;
  /** DIDs of the cooperatives whose votes count, sorted. */
  vouchers: string[];
  /** Where a person reads why. */
  url: string;
  /** Grows with each change of any listing of one AppView. */
  seq: number;
  /** The entry is gone; only what names it still matters. */
  removed?: boolean;
  /** Taken over from another list's file: this is answered, whatever kind, trust, DID and URL are. */
  foreign?: ForeignAnswer;
};

/** What another list says of an entry, as its file has it. */
export type ForeignAnswer = {
  /** Dotted IPv4, in 127.0.0.0/8. */
  address: string;
  /** The TXT: `$` stands for the listed name or address, `$$` for a dollar. Without: no TXT at all. */
  text?: string;
};
