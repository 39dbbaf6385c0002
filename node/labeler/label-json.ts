/**
 * One label as `queryLabels` gives it: JSON, the signature as atproto's data model writes bytes.
 *
 * https://atproto.com/specs/data-model#bytes
 */
import type { SignedLabel } from '../../appview/labels/codec.ts';

export function labelJson({ sig, ...fields }: SignedLabel): string {
  const $bytes = Buffer.from(sig).toString('base64').replace(/=+$/, '');
  return JSON.stringify({ ...fields, sig: { $bytes } });
}
