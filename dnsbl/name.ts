/**
 * Names in the form in which the zone compares them.
 *
 * A NameKey is the wire form in lower case without the final root octet, one character an octet:
 * `reef.test` is "\x04reef\x04test". Labels keep their lengths, so a label that contains a dot, or the
 * spelling of another name, never compares equal to two labels.
 */
import { isIPv4, isIPv6 } from 'node:net';

export type NameKey = string;

/** RFC 1035 §3.1: 255 octets on the wire, without the root octet. As text: 253 characters. */
export const MAX_KEY_LENGTH = 254;

// RFC 1123 §2.1: letters, digits, hyphen. Anything else, `*` above all, must not reach the zone.
const hostLabel = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** @returns undefined for what is not a host name in lower-case A-label form, or does not fit. */
export function hostKey(domain: string): NameKey | undefined {
  const labels = domain.split('.');
  if (!labels.every((label) => hostLabel.test(label))) return undefined;
  const key = keyOfLabels(labels);
  return key.length <= MAX_KEY_LENGTH ? key : undefined;
}

/** @param labels each of 1–63 octets, in lower case */
export function keyOfLabels(labels: readonly string[]): NameKey {
  return labels.map((label) => String.fromCharCode(label.length) + label).join('');
}

/** True of a name below the apex, and of the apex itself; false where only the octets of a label end alike. */
export function isBelow(key: NameKey, apex: NameKey): boolean {
  const apexAt = key.length - apex.length;
  let at = 0;
  while (at < apexAt) at += 1 + key.charCodeAt(at);
  return at === apexAt && key.endsWith(apex);
}

/**
 * RFC 5782 §2.1 and §2.4: IPv4 reversed by octets, IPv6 reversed by nibbles.
 *
 * @returns undefined for what is not one plain address (a zone id makes it none)
 */
export function reversedAddressKey(address: string): NameKey | undefined {
  if (isIPv4(address)) return keyOfLabels(address.split('.').reverse());
  if (!isIPv6(address) || address.includes('%')) return undefined;
  return keyOfLabels([...ipv6Nibbles(address)].reverse());
}

/** An IPv6 address as four words, the first ones first. @returns undefined for what is not one plain address */
export function addressWords(address: string): Int32Array | undefined {
  if (!isIPv6(address) || address.includes('%')) return undefined;
  const digits = ipv6Nibbles(address);
  return Int32Array.from(
    { length: 4 },
    (_, index) => parseInt(digits.slice(8 * index, 8 * index + 8), 16) | 0,
  );
}

function ipv6Nibbles(address: string): string {
  const [head = '', tail] = dottedTailAsGroups(address).split('::');
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const zeros = Array<string>(8 - front.length - back.length).fill('0');
  return [...front, ...zeros, ...back].map((group) => group.toLowerCase().padStart(4, '0')).join('');
}

function groups(text: string): string[] {
  return text === '' ? [] : text.split(':');
}

/** `::ffff:127.0.0.2` → `::ffff:7f00:2` */
function dottedTailAsGroups(address: string): string {
  const tail = address.slice(address.lastIndexOf(':') + 1);
  if (!isIPv4(tail)) return address;
  const [a = 0, b = 0, c = 0, d = 0] = tail.split('.').map(Number);
  const hex = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  return address.slice(0, -tail.length) + hex;
}
