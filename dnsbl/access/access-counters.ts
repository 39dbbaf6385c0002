/** What the gate tells whoever counts; it knows nothing of metrics. */

/** Indices into `accessEvents`: what was done, and why. */
export const ACCESS = {
  limitedSlip: 0,
  limitedDrop: 1,
  limitedLog: 2,
  ruleRefuse: 3,
  ruleDrop: 4,
  clientQuota: 5,
  keyQuota: 6,
  keyPrefix: 7,
  unkeyedClosed: 8,
  cookieValid: 9,
  cookieInvalid: 10,
  cookieNew: 11,
} as const;
export const accessEvents = Object.keys(ACCESS) as (keyof typeof ACCESS)[];

export interface AccessCounters {
  /** @param event one of ACCESS */
  access(event: number): void;
}
