/** RFC 1982: serials are 32 bits and go round. */
export const SERIALS = 2 ** 32;

/** RFC 1982 §3.2. */
export function isAfter(serial: number, other: number): boolean {
  return ((serial - other) | 0) > 0;
}
