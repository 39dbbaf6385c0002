/** RFC 5322 §3.3, in UTC: the one form of a date in what we write. @param unixMs within four-digit years */
export function mailDate(unixMs: number): string {
  return new Date(unixMs).toUTCString().replace('GMT', '+0000');
}
