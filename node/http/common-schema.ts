/** What several methods say the same way: times, pages, the DID in the address. */
import { z } from 'zod';

/** Judged by the door; here so that it is a known field. */
export const didInQuery = z
  .string()
  .max(256)
  .optional()
  .describe('Your DID, where the header X-Atmos-DID does not name it');

/** Of a method that asks nothing else in its address. */
export const didQuery = z.strictObject({ did: didInQuery });

/** RFC 3339, with seconds and an offset; Unix ms inside. */
export const instant = z.iso
  .datetime({ offset: true })
  .max(40)
  .transform((text) => Date.parse(text));

export const pageLimit = z
  .string()
  .regex(/^([1-9]\d?|100)$/, 'is not a number from 1 to 100')
  .transform(Number)
  .default(50)
  .describe('Entries of a page, 1 to 100');

export const cursor = z.string().min(1).max(512).optional().describe('From the page before');

/** @param at Unix ms */
export function iso(at: number): string {
  return new Date(at).toISOString();
}
