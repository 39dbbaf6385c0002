/**
 * The names that exist below one apex, and which of them answers for a name asked.
 *
 * Invariant: a name is in the map exactly when it has records or something stands below it, so empty
 * non-terminals exist (RFC 8020, RFC 4592 §2.2.2) and go when the last name below them goes.
 */
import { type NameKey, parentOf } from './name.ts';
import { type RecordSet, sameRecords } from './records.ts';

const APEX: NameKey = '';
const WILDCARD: NameKey = '\x01*';

/** `children` counts the names exactly one label below. */
type Node = { records: readonly RecordSet[]; children: number };

export class NameTree {
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
