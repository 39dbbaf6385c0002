/** Timestamp identifiers (https://atproto.com/specs/tid): 13 characters that sort as text by their time. */

const alphabet = '234567abcdefghijklmnopqrstuvwxyz';

/** @returns Unix ms, undefined when it is not a TID */
export function tidTime(tid: string): number | undefined {
  if (!/^[2-7a-j][2-7a-z]{12}$/.test(tid)) return undefined;
  let value = 0n;
  for (const character of tid) value = value * 32n + BigInt(alphabet.indexOf(character));
  // 53 bits of microseconds above 10 bits of clock identifier.
  return Number(value >> 10n) / 1000;
}
