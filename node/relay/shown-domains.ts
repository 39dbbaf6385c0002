/**
 * The domains of whatever looks like an address in a display name, as a reader would see it.
 *
 * Many mail programs show the name alone, so a foreign address there deceives as well as one in the address.
 * For judging only: nothing of this is ever put into a message.
 */
import { normalizeDomain } from '../members/domain-name.ts';
import { decodeWords } from './encoded-words.ts';

/** What no program shows: control and format characters, fillers, variation selectors. */
const invisible = /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/gu;
/** Drawn as a full stop, and left alone by NFKC. */
const fullStops = /[\u3002\u00b7\u0387\u06d4\u0701\u0702\u2027\u2219\u22c5\u30fb\ua4f8\ua60e]/gu;
/**
 * Blanks beside the `@` do not make it less of an address to a reader; `Reef @ Work` has no dot, `2 @ 3.50` no
 * letter behind it, and both are none.
 */
const addressLike = /@\s*((?:[\p{L}\p{N}\p{M}_-]+\.)+[\p{L}\p{N}\p{M}_-]*\p{L}[\p{L}\p{N}\p{M}_-]*)/gu;

/** @returns in their normal form; as written where they have none */
export function domainsShownIn(text: string): string[] {
  // NFKC turns most look-alikes of `@` and `.` into themselves, and every blank into a plain one.
  const shown = decodeWords(text).normalize('NFKC').replace(invisible, '').replace(fullStops, '.');
  return [...shown.matchAll(addressLike)].map(([, domain]) => normalizeDomain(domain!) ?? domain!);
}
