/**
 * What a zone answers, said a second time in the plainest way: a Map of names, and messages put together
 * from records. The oracle of the table and of the hot path.
 *
 * Invariant of the Map: a name is in it exactly when it has records or something stands below it, so empty
 * non-terminals exist (RFC 8020, RFC 4592 §2.2.2) and go when the last name below them goes.
 */
import { entriesOf, testPoints } from '../../dnsbl/entries.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { hostKey, isBelow, MAX_KEY_LENGTH, type NameKey } from '../../dnsbl/name.ts';
import { nsRecords, type RecordSet, sameRecords, soaRecord, TYPE } from '../../dnsbl/records.ts';
import { CLASS_IN, type Query, RCODE, readQuery, type Transport } from '../../dnsbl/wire.ts';
import { encodeFault, encodeResponse, type Response } from './dnsbl-reference-wire.ts';

const nameservers = ['ns1.harbor.test', 'ns2.harbor.test'].map((name) => hostKey(name)!);
const [ttl, negativeTtl] = [300, 60];

/** With the name servers and TTLs of dnsbl-fixtures.ts; its serial is set by the test. */
export class ReferenceZone {
  serial = 0;
  size = 0;
  readonly #apexKey: NameKey;
  readonly #tree = new NameTree();

  constructor(apex: string) {
    this.#apexKey = hostKey(apex)!;
    for (const { owner, records } of testPoints(ttl)) {
      if (owner.length + this.#apexKey.length <= MAX_KEY_LENGTH) this.#tree.set(owner, records);
    }
  }

  apply(listing: Listing): 'changed' | 'unchanged' | 'unlistable' {
    const entries = entriesOf(listing, this.#apexKey.length, ttl);
    const [main] = entries;
    if (!main) return 'unlistable';
    this.size += Number(main.records.length > 0) - Number(this.#tree.holds(main.owner));
    const changes = entries.filter(({ owner, records }) => this.#tree.set(owner, records));
    return changes.length === 0 ? 'unchanged' : 'changed';
  }

  answer(packet: Buffer, transport: Transport): Buffer | undefined {
    const reading = readQuery(packet);
    if (reading.kind === 'dropped') return undefined;
    if (reading.kind === 'faulty') return encodeFault(reading.header, reading.rcode, reading.edns);
    return encodeResponse(reading.query, this.#decide(reading.query, transport), transport);
  }

  #decide({ edns, question }: Query, transport: Transport): Response {
    if (edns && edns.version !== 0) return refusal(RCODE.BADVERS);
    if (question.class !== CLASS_IN) return refusal(RCODE.REFUSED);
    const { type } = question;
    // RFC 1995 §2: over UDP the SOA alone, and never as a part of the zone.
    if (type === TYPE.IXFR && transport === 'udp' && question.key === this.#apexKey)
      return {
        ...refusal(RCODE.NOERROR),
        authoritative: true,
        answers: [{ ownerAt: 0, set: this.#soa(ttl) }],
      };
    if (type === TYPE.AXFR || type === TYPE.IXFR) return refusal(RCODE.REFUSED);
    if (type === TYPE.MAILA || type === TYPE.MAILB) return refusal(RCODE.NOTIMP);
    if (type === TYPE.OPT || (type >= 128 && type < TYPE.ANY)) return refusal(RCODE.FORMERR);
    if (!isBelow(question.key, this.#apexKey)) return refusal(RCODE.REFUSED);
    const apexAt = question.key.length - this.#apexKey.length;
    const records = apexAt === 0 ? this.#apexRecords() : this.#tree.find(question.key.slice(0, apexAt));
    const set = type === TYPE.ANY ? records?.[0] : records?.find((one) => one.type === type);
    return {
      rcode: records ? RCODE.NOERROR : RCODE.NXDOMAIN,
      authoritative: true,
      answers: set ? [{ ownerAt: 0, set }] : [],
      authority: set ? [] : [{ ownerAt: apexAt, set: this.#soa(negativeTtl) }],
    };
  }

  #apexRecords(): RecordSet[] {
    return [this.#soa(ttl), nsRecords(nameservers, ttl)];
  }

  #soa(soaTtl: number): RecordSet {
    const hostmaster = hostKey('dns.harbor.test')!;
    const timers = { refresh: 900, retry: 300, expire: 604_800, minimum: negativeTtl };
    return soaRecord({ primary: nameservers[0]!, hostmaster, serial: this.serial, ...timers }, soaTtl);
  }
}

function refusal(rcode: number): Response {
  return { rcode, authoritative: false, answers: [], authority: [] };
}

/** The name one label up; the parent of a single label is the root, ''. */
function parentOf(key: NameKey): NameKey {
  return key.slice(1 + key.charCodeAt(0));
}

const APEX: NameKey = '';
const WILDCARD: NameKey = '\x01*';

/** `children` counts the names exactly one label below. */
type Node = { records: readonly RecordSet[]; children: number };

class NameTree {
  readonly #nodes = new Map<NameKey, Node>([[APEX, { records: [], children: 0 }]]);

  /** True when the name itself has records: a wildcard or an empty non-terminal does not count. */
  holds(key: NameKey): boolean {
    return (this.#nodes.get(key)?.records.length ?? 0) > 0;
  }

  /**
   * RFC 1034 §4.3.2 step 3 with RFC 4592 §3.3.1: the name, or else the wildcard at its closest encloser.
   *
   * @returns the records, none at an empty non-terminal; undefined when the name does not exist
   */
  find(key: NameKey): readonly RecordSet[] | undefined {
    const node = this.#nodes.get(key) ?? this.#nodes.get(WILDCARD + this.#closestEncloser(key));
    return node?.records;
  }

  /**
   * @param records all that the name shall have; none takes the name away
   * @returns whether that changed anything
   */
  set(key: NameKey, records: readonly RecordSet[]): boolean {
    if (sameRecords(this.#nodes.get(key)?.records ?? [], records)) return false;
    this.#grown(key).records = records;
    this.#prune(key);
    return true;
  }

  /** At most 127 steps: a name has no more labels. The apex always exists. */
  #closestEncloser(key: NameKey): NameKey {
    let encloser = parentOf(key);
    while (!this.#nodes.has(encloser)) encloser = parentOf(encloser);
    return encloser;
  }

  /** The node of a name, made with all that is missing above it. */
  #grown(key: NameKey): Node {
    const known = this.#nodes.get(key);
    if (known) return known;
    this.#grown(parentOf(key)).children += 1;
    const node = { records: [], children: 0 };
    this.#nodes.set(key, node);
    return node;
  }

  #prune(key: NameKey): void {
    const node = this.#nodes.get(key);
    if (!node || key === APEX || node.records.length > 0 || node.children > 0) return;
    this.#nodes.delete(key);
    const parent = parentOf(key);
    (this.#nodes.get(parent) as Node).children -= 1;
    this.#prune(parent);
  }
}
