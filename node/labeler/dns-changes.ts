/**
 * What changed in the records of a domain since they were seen last: the event `dns_changed`.
 *
 * Promise: a DKIM key that becomes another one, goes or is revoked under the same attestation (`cid`) is an
 * event at once, with both fingerprints: nobody declared it. A new attestation starts its keys anew. Changes
 * of MX, SPF and DMARC come with it, or at most once an hour, as the sum of what changed. A silence of DNS
 * changes nothing.
 */
import { createHash } from 'node:crypto';
import type { CheckResult } from './checks.ts';

/** What the next look is compared with. */
export type Seen = {
  /** SHA-256 of the key by selector; `revoked`; empty: gone. */
  keys?: Record<string, string>;
  /** `MX`, `SPF`, `DMARC`; empty: there is none. */
  records?: Record<string, string>;
  /** Unix ms of the last event. */
  toldAt?: number;
};

export type Change = { name: string; old: string; new: string };

/** `detail` of the event. `keys`: by selector. */
export type DnsChange = { cid: string; keys: Change[]; records: Change[] };

const tellAgainAfterMs = 3_600_000;
const maxChars = 512;

export function dnsChanges(
  before: { cid: string | null; seen: Seen },
  run: { cid: string; evidence: readonly CheckResult[]; at: number },
): { seen: Seen; change?: DnsChange } {
  const known = before.seen.records ?? {};
  const declared = before.cid === run.cid ? (before.seen.keys ?? {}) : {};
  const records = { ...known, ...seenBy(run.evidence, (check) => check !== 'dkim') };
  const keys = { ...declared, ...seenBy(run.evidence, (check) => check === 'dkim') };
  const change = { cid: run.cid, keys: differences(declared, keys), records: differences(known, records) };
  const toldAt = before.seen.toldAt;
  const isQuiet = toldAt !== undefined && run.at - toldAt < tellAgainAfterMs;
  const isToTell = change.keys.length > 0 || (change.records.length > 0 && !isQuiet);
  if (isToTell) return { seen: { keys, records, toldAt: run.at }, change };
  // What is not told yet stays the comparison; what is new to us is no change.
  const kept = { keys, records: { ...records, ...known } };
  return { seen: toldAt === undefined ? kept : { ...kept, toldAt } };
}

function seenBy(
  evidence: readonly CheckResult[],
  isOne: (check: CheckResult['check']) => boolean,
): Record<string, string> {
  const seen = evidence
    .filter(({ check }) => isOne(check))
    .flatMap((result) => Object.entries(result.seen ?? {}));
  return Object.fromEntries(seen.map(([name, text]) => [name, shortened(text)]));
}

function differences(before: Record<string, string>, after: Record<string, string>): Change[] {
  return Object.entries(after).flatMap(([name, text]) => {
    const old = Object.hasOwn(before, name) ? before[name]! : text;
    return old === text ? [] : [{ name, old, new: text }];
  });
}

/** What differs behind the cut still differs. */
function shortened(text: string): string {
  if (text.length <= maxChars) return text;
  return `${text.slice(0, maxChars)}… sha256:${createHash('sha256').update(text).digest('hex')}`;
}
