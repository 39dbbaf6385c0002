/** A frame of com.atproto.label.subscribeLabels, as another labeler makes it. */
import { encode } from '@atproto/lex-cbor';
import type { SignedLabel } from '../../appview/labels/codec.ts';

/** @param seq of the last of `labels`; grows from frame to frame, gaps are legal */
export function encodeLabelsFrame(seq: number, labels: readonly SignedLabel[]): Uint8Array {
  return Buffer.concat([encode({ op: 1, t: '#labels' }), encode({ seq, labels: [...labels] })]);
}
