/**
 * Which labels of a name could be a subscriber's key, for whoever writes names down.
 *
 * In a zone of ours it is the one right above the apex; of two zones, one inside the other, above the inner.
 * Outside all zones it is any: someone who mistypes the zone still sends the key. Not for the way of an answer.
 */
import { MIN_KEY_OCTETS } from './access/subscriber-keys.ts';

const MAX_LABEL_OCTETS = 63;

/** The labels of a name on the wire, up to its root, or to what is no label. */
export function labelsOf(octets: Uint8Array): Uint8Array[] {
  const labels: Uint8Array[] = [];
  for (let at = 0; at < octets.length && octets[at]! > 0 && octets[at]! <= MAX_LABEL_OCTETS; ) {
    const next = at + 1 + octets[at]!;
    labels.push(octets.subarray(at + 1, next));
    at = next;
  }
  return labels;
}

/** @param apexes in lower case. @returns the indices of the labels that must not be shown */
export function keyLabels(labels: readonly Uint8Array[], apexes: readonly string[]): number[] {
  const texts = labels.map((label) => Buffer.from(label).toString('latin1').toLowerCase());
  const isLong = (index: number) => (labels[index]?.length ?? 0) >= MIN_KEY_OCTETS;
  const inside = apexes.map((apex) => apex.split('.')).filter((apex) => endsWith(texts, apex));
  if (inside.length === 0) return [...labels.keys()].filter(isLong);
  const above = labels.length - Math.max(...inside.map((apex) => apex.length)) - 1;
  return isLong(above) ? [above] : [];
}

function endsWith(labels: readonly string[], apex: readonly string[]): boolean {
  const from = labels.length - apex.length;
  return from >= 0 && apex.every((label, index) => label === labels[from + index]);
}
