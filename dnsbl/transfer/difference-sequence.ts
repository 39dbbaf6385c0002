/**
 * What an IXFR says (RFC 1995 §4): the new SOA, then differences, each from one serial to a later one.
 *
 * Many steps become one difference, in which what came and went again is left out.
 */
import type { OwnedRecords, ZoneChange } from '../difference.ts';
import type { RecordSet } from '../records.ts';
import { withSerial } from './history.ts';
import { MAX_STEPS_IN_DIFFERENCE } from './limits.ts';

/** @param soa of the zone, at any serial. @param to where the steps end */
export async function* differenceSequence(
  soa: RecordSet,
  to: number,
  steps: AsyncIterable<ZoneChange>,
): AsyncGenerator<OwnedRecords[]> {
  const soaAt = (serial: number): OwnedRecords => ({ owner: '', set: withSerial(soa, serial) });
  yield [soaAt(to)];
  for await (const { from, to: next, removed, added } of condensed(steps)) {
    yield [soaAt(from), ...removed, soaAt(next), ...added];
  }
  yield [soaAt(to)];
}

async function* condensed(steps: AsyncIterable<ZoneChange>): AsyncGenerator<ZoneChange> {
  let difference: Difference | undefined;
  for await (const step of steps) {
    difference ??= new Difference(step.from);
    difference.add(step);
    if (difference.steps < MAX_STEPS_IN_DIFFERENCE) continue;
    yield difference.change;
    difference = undefined;
  }
  if (difference) yield difference.change;
}

class Difference {
  steps = 0;
  readonly #from: number;
  #to: number;
  readonly #removed = new Map<string, OwnedRecords>();
  readonly #added = new Map<string, OwnedRecords>();

  constructor(from: number) {
    this.#from = from;
    this.#to = from;
  }

  get change(): ZoneChange {
    return {
      from: this.#from,
      to: this.#to,
      removed: [...this.#removed.values()],
      added: [...this.#added.values()],
    };
  }

  add(step: ZoneChange): void {
    this.steps += 1;
    this.#to = step.to;
    for (const records of step.removed) moveOrKeep(records, this.#added, this.#removed);
    for (const records of step.added) moveOrKeep(records, this.#removed, this.#added);
  }
}

/** What is undone vanishes from the one side, and never reaches the other. */
function moveOrKeep(
  records: OwnedRecords,
  undone: Map<string, OwnedRecords>,
  kept: Map<string, OwnedRecords>,
) {
  const key = keyOf(records);
  if (!undone.delete(key)) kept.set(key, records);
}

function keyOf({ owner, set }: OwnedRecords): string {
  const data = set.rdatas.map((rdata) => `${rdata.length} ${rdata.toString('latin1')}`);
  return `${owner.length} ${owner} ${set.type} ${set.ttl} ${data.join('')}`;
}
