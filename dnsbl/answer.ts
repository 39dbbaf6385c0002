/**
 * Packets in, answers out: the same for UDP and TCP, without sockets.
 *
 * Promise: any octets get an answer or silence; nothing throws, loops or, on the usual way, allocates.
 * What is not ours is REFUSED, never an address: filters read any address in 127.0.0.0/8 as a listing.
 * query.ts reads, table/lookup.ts finds, response.ts writes; what is said to whom is decided here.
 */
import { CLASS_CHAOS, chaosText, chaosTexts } from './chaos.ts';
import { QueryReader, READ } from './query.ts';
import { TYPE } from './records.ts';
import { ResponseWriter, writeFault } from './response.ts';
import {
  type AnswerClass,
  type AnswererOptions,
  type Client,
  DROP,
  OUTCOME,
  type ZoneKeys,
} from './seams.ts';
import { FOUND, Lookup, SUBTREE, subtreeOf } from './table/lookup.ts';
import type { ZoneShare } from './table/share.ts';
import { STATE } from './table/state.ts';
import { EntryText } from './table/text.ts';
import { isForeign, kindOf, mailTypesOf, mailTypeTexts, trustOf } from './table/values.ts';
import { CLASS_IN, RCODE, type Transport } from './wire.ts';
import { ZoneReader } from './zone-reader.ts';

export * from './seams.ts';

type Admission = 'ok' | 'refuse' | 'drop';

/** By OUTCOME. */
const classes: readonly AnswerClass[] = [
  'positive',
  'nodata',
  'nxdomain',
  'error',
  'error',
  'error',
  'error',
];

const mailTypeOctets = mailTypeTexts.map((text) => Uint8Array.from(Buffer.from(text)));

/** One per answering thread. All that it needs of other threads is in shared memory. */
export class Answerer {
  /** Of the last answer, until the next: one of OUTCOME, the zone's index or -1, the QTYPE or 0. */
  outcome = 0;
  zone = -1;
  type = 0;
  readonly query = new QueryReader();
  readonly #options: AnswererOptions;
  readonly #response: ResponseWriter;
  readonly #lookup = new Lookup();
  readonly #text = new EntryText();
  readonly #chaos: ReturnType<typeof chaosTexts>;
  readonly #apexes: string[];
  /** Of two zones, one inside the other, the inner has the longer apex and is asked first. */
  #zones: { reader: ZoneReader; index: number; keys: ZoneKeys | undefined }[] = [];
  #key = -1;
  readonly #fence = new Int32Array(1);

  constructor(options: AnswererOptions) {
    this.#options = options;
    this.#response = new ResponseWriter(options.nsid ?? '');
    this.#chaos = chaosTexts(options.version ?? '', options.nsid ?? '');
    this.#apexes = [];
    for (const share of options.zones) this.replace(share);
  }

  /** A zone's new table. An apex that was not there before is added behind the others. */
  replace(share: ZoneShare): void {
    const { apex } = share;
    if (!this.#apexes.includes(apex)) this.#apexes.push(apex);
    const zone = {
      reader: new ZoneReader(share),
      index: this.#apexes.indexOf(apex),
      keys: this.#options.keys?.get(apex),
    };
    const others = this.#zones.filter(({ reader }) => reader.share.apex !== apex);
    this.#zones = [...others, zone].sort((a, b) => b.reader.apex.length - a.reader.apex.length);
  }

  /** True when a zone has a newer table than this one knows: one Atomics.load for each zone. */
  isBehind(): boolean {
    for (const { reader } of this.#zones) if (reader.isBehind) return true;
    return false;
  }

  /**
   * @param out at least 4,096 octets free from `outAt` for udp, 65,535 for tcp
   * @returns octets of the response; 0: silence
   */
  answer(
    packet: Uint8Array,
    start: number,
    length: number,
    transport: Transport,
    client: Client,
    out: Uint8Array,
    outAt: number,
  ): number {
    const { gate, counters } = this.#options;
    this.zone = -1;
    this.type = 0;
    const read = this.query.read(packet, start, start + length);
    if (read === READ.short || read === READ.response) {
      counters.dropped(read === READ.short ? DROP.short : DROP.response);
      return 0;
    }
    const admission = gate === undefined ? 'ok' : gate.admit(client, transport);
    if (admission === 'drop') return this.#drop(DROP.denied);
    if (read !== READ.query || !this.#isCookieWell()) {
      return this.#fault(read, packet, start, transport, client, out, outAt);
    }
    this.type = this.query.type;
    this.#response.open(packet, start, this.query, transport === 'tcp', out, outAt);
    if (!this.#decide(admission, client, transport)) return this.#drop(DROP.denied);
    return this.#send(packet, transport, client, out);
  }

  #drop(reason: number): number {
    this.#options.counters.dropped(reason);
    return 0;
  }

  #fault(
    read: number,
    packet: Uint8Array,
    start: number,
    transport: Transport,
    client: Client,
    out: Uint8Array,
    outAt: number,
  ): number {
    const { gate, counters } = this.#options;
    // There is no question to repeat, so an empty answer with TC would say nothing: silence instead.
    if (transport === 'udp' && gate !== undefined && gate.respond(client, 'error', 0) !== 'send') {
      return this.#drop(DROP.limited);
    }
    this.outcome = read === READ.notimp ? OUTCOME.notimp : OUTCOME.formerr;
    counters.answered(-1, 0, this.outcome, false);
    const rcode = read === READ.notimp ? RCODE.NOTIMP : RCODE.FORMERR;
    return writeFault(packet, start, this.query, rcode, out, outAt);
  }

  /** RFC 7873 §5.2.2: 8 octets of the client's, and 8 to 32 of ours or none. */
  #isCookieWell(): boolean {
    const { cookieAt, cookieLength } = this.query;
    if (cookieAt < 0 || this.#options.cookies === undefined) return true;
    return cookieLength === 8 || (cookieLength >= 16 && cookieLength <= 40);
  }

  /** Writes the records and sets `outcome`. @returns false for silence */
  #decide(admission: Admission, client: Client, transport: Transport): boolean {
    const { query } = this;
    // RFC 6891 §6.1.3: before all else, for a later version may give the rest another meaning.
    if (query.hasEdns && query.version !== 0) this.outcome = OUTCOME.badvers;
    else if (admission === 'refuse') this.outcome = OUTCOME.refused;
    else if (query.class === CLASS_CHAOS) this.#sayChaos();
    else if (query.class !== CLASS_IN) this.outcome = OUTCOME.refused;
    else if (isUnfit(query.type)) this.#sayUnfit(transport);
    else return this.#fromZones(client, transport);
    return true;
  }

  #sayChaos(): void {
    const text = chaosText(this.#chaos, this.query);
    this.outcome = text === undefined ? OUTCOME.refused : OUTCOME.nodata;
    if (text === undefined || (this.type !== TYPE.TXT && this.type !== TYPE.ANY)) return;
    this.outcome = OUTCOME.noerror;
    this.#response.addString(text, CLASS_CHAOS, 0);
  }

  /** RFC 1995 §2: an IXFR over UDP gets the SOA, as anybody does; for more its client comes over TCP. */
  #sayUnfit(transport: Transport): void {
    this.outcome = unfitOutcome(this.type);
    if (this.type !== TYPE.IXFR || transport !== 'udp') return;
    const { query } = this;
    const zone = this.#zones.find(
      ({ reader }) => query.labels === reader.apexLabels && isApex(query, 0, reader.apex),
    );
    if (zone === undefined) return;
    this.zone = zone.index;
    this.outcome = OUTCOME.noerror;
    this.#response.addSoa(zone.reader.apexSoa, zone.reader.serial);
  }

  #fromZones(client: Client, transport: Transport): boolean {
    const { query } = this;
    for (let index = 0; index < this.#zones.length; index++) {
      const zone = this.#zones[index]!;
      const labels = query.labels - zone.reader.apexLabels;
      if (labels < 0 || !isApex(query, query.starts[labels]!, zone.reader.apex)) continue;
      this.zone = zone.index;
      return this.#fromZone(zone.reader, zone.keys, labels, client, transport);
    }
    this.outcome = OUTCOME.refused;
    return true;
  }

  /** @param labels of the name asked, above the apex's own */
  #fromZone(
    zone: ZoneReader,
    keys: ZoneKeys | undefined,
    labels: number,
    client: Client,
    transport: Transport,
  ): boolean {
    let below = labels;
    let subtree = labels === 0 ? SUBTREE.none : subtreeOf(this.query.name, this.query.starts[labels - 1]!);
    let key = -1;
    if (keys !== undefined && labels > 0) {
      if (subtree === SUBTREE.none) {
        const at = this.query.starts[labels - 1]!;
        key = keys.find(this.query.name, at + 1, this.query.name[at]!);
        if (key >= 0) below -= 1;
        if (key >= 0 && below > 0) subtree = subtreeOf(this.query.name, this.query.starts[below - 1]!);
      }
      if (key >= 0 || subtree !== SUBTREE.none) {
        const admission = keys.admit(key, client, transport);
        if (admission === 'drop') return false;
        if (admission === 'refuse') {
          this.outcome = OUTCOME.refused;
          return true;
        }
      }
    }
    this.#key = key;
    this.#sayConsistently(zone, subtree, below, labels);
    return true;
  }

  /** See table/values.ts: an answer during which memory of replaced values was used again is made again. */
  #sayConsistently(zone: ZoneReader, subtree: number, below: number, labels: number): void {
    const { state } = zone.table;
    for (;;) {
      const reclaimed = Atomics.load(state, STATE.reclaimed);
      this.#say(zone, subtree, below, labels);
      // A store before the load keeps the reads above it in front of it, on weakly ordered machines too.
      Atomics.store(this.#fence, 0, 0);
      if (Atomics.load(state, STATE.reclaimed) === reclaimed) return;
      this.#response.rewind();
    }
  }

  #say(zone: ZoneReader, subtree: number, below: number, labels: number): void {
    if (labels === 0) this.#sayApex(zone);
    else if (subtree === SUBTREE.none) {
      this.outcome = this.#key >= 0 && below === 0 ? OUTCOME.nodata : OUTCOME.nxdomain;
    } else this.#sayEntry(zone, subtree, below - 1);
    if (this.outcome === OUTCOME.noerror) return;
    const apexAt = this.query.starts[labels]!;
    this.#response.addNegativeSoa(zone.negativeSoa, zone.serial, apexAt);
  }

  #sayApex(zone: ZoneReader): void {
    const { type } = this;
    this.outcome = OUTCOME.noerror;
    if (type === TYPE.SOA || type === TYPE.ANY) this.#response.addSoa(zone.apexSoa, zone.serial);
    else if (type === TYPE.NS) this.#response.addAnswers(zone.nameservers, zone.nameserverCount);
    else this.outcome = OUTCOME.nodata;
  }

  #sayEntry(zone: ZoneReader, subtree: number, labels: number): void {
    const { type } = this;
    const { name, starts } = this.query;
    const found = this.#lookup.find(zone.table, subtree, name, starts, labels);
    this.outcome = OUTCOME.noerror;
    // RFC 8482 §4.1: ANY gets one set, not all, so it is no lever for amplification.
    if (found === FOUND.code && (type === TYPE.A || type === TYPE.ANY)) this.#sayCode(zone);
    else if (found === FOUND.code && type === TYPE.TXT) this.#sayText(zone);
    else if (found === FOUND.mailTypes && (type === TYPE.TXT || type === TYPE.ANY)) this.#sayMailTypes(zone);
    else this.outcome = found === FOUND.nothing ? OUTCOME.nxdomain : OUTCOME.nodata;
  }

  /** The scale of dnswl.org for the vouched, the customary 127.0.0.2 for the blocked and the test points. */
  #sayCode(zone: ZoneReader): void {
    const { value } = this.#lookup;
    const kind = kindOf(value);
    if (isForeign(value)) {
      const code = zone.table.values.did(value, 0);
      this.#response.addCode((code >>> 16) & 0xff, (code >>> 8) & 0xff, code & 0xff, zone.ttl);
    } else this.#response.addCode(0, kind, kind === 0 ? 2 : trustOf(value), zone.ttl);
  }

  #sayText(zone: ZoneReader): void {
    const { value, form, ref } = this.#lookup;
    if (isForeign(value) && zone.table.values.template(value) === 0) {
      this.outcome = OUTCOME.nodata;
      return;
    }
    this.#text.read(zone.table, value, form, ref);
    this.#response.addText(this.#text, zone.ttl);
  }

  #sayMailTypes(zone: ZoneReader): void {
    const flags = zone.table.values.flags(this.#lookup.value);
    const octets = mailTypeOctets[mailTypesOf(flags)];
    if (octets !== undefined) this.#response.addString(octets, CLASS_IN, zone.ttl);
  }

  #send(packet: Uint8Array, transport: Transport, client: Client, out: Uint8Array): number {
    const { gate, cookies, counters } = this.#options;
    const { query } = this;
    const hasCookie = cookies !== undefined && query.cookieAt >= 0 && query.version === 0;
    if (gate !== undefined && transport === 'udp') {
      const isKnown = hasCookie && cookies.isValid(client, packet, query.cookieAt, query.cookieLength);
      const fate = isKnown ? 'send' : gate.respond(client, classes[this.outcome]!, query.nameHash());
      if (fate === 'drop') return this.#drop(DROP.limited);
      if (fate === 'slip') this.#slip(hasCookie && cookies.areRequired === true);
    }
    const { outcome } = this;
    const octets = this.#response.close(query, rcodes[outcome]!, outcome <= OUTCOME.nxdomain);
    counters.answered(this.zone, this.type, outcome, this.#response.isTruncated);
    if (!hasCookie) return octets;
    const at = this.#response.cookieDataAt;
    return this.#response.addCookie(
      cookies.answerFor(client, packet, query.cookieAt, query.cookieLength, out, at),
    );
  }

  /** An empty answer: the client is to come over TCP, or with the cookie that this answer brings. */
  #slip(withCookie: boolean): void {
    if (withCookie) this.#response.rewind();
    else this.#response.truncate();
    this.outcome = withCookie ? OUTCOME.badcookie : OUTCOME.slipped;
  }
}

/** By OUTCOME. */
const rcodes: readonly number[] = [
  RCODE.NOERROR,
  RCODE.NOERROR,
  RCODE.NXDOMAIN,
  RCODE.REFUSED,
  RCODE.FORMERR,
  RCODE.NOTIMP,
  RCODE.BADVERS,
  RCODE.NOERROR,
  RCODE.BADCOOKIE,
];

/** Types that no record has (RFC 6895 §3.1: 128–254 and OPT), other than ANY. */
function isUnfit(type: number): boolean {
  return type === TYPE.OPT || (type >= 128 && type < TYPE.ANY);
}

/** Transfers are the server's business; those that reach this place come over a way that has none. */
function unfitOutcome(type: number): number {
  if (type === TYPE.AXFR || type === TYPE.IXFR) return OUTCOME.refused;
  return type === TYPE.MAILA || type === TYPE.MAILB ? OUTCOME.notimp : OUTCOME.formerr;
}

/** @param at where as many labels as the apex has begin in the name asked */
function isApex(query: QueryReader, at: number, apex: Uint8Array): boolean {
  if (query.nameLength - at !== apex.length) return false;
  for (let index = 0; index < apex.length; index++) if (query.name[at + index] !== apex[index]) return false;
  return true;
}
