/**
 * Decides from the undecoded frame whether it can concern us.
 *
 * Nearly no commit touches our collection: looking for its name in the bytes spares the
 * decoding. A match may be false (the words stand in a post), a miss never is: the operations of a
 * commit name their paths in plain text.
 */
import { attestationPath } from '../attestation-uri.ts';
import type { FrameHead } from './frame.ts';

const needle = Buffer.from(attestationPath(''));

/** @param isKnown whether we keep anything of an account: others' status and state are no business of ours */
export function concernsUs(head: FrameHead, isKnown: (did: string) => boolean): boolean {
  switch (head.type) {
    case '#commit':
      return head.body.includes(needle);
    case '#account':
    case '#sync':
      return head.did !== undefined && isKnown(head.did);
    case '#identity':
      return true;
    default:
      return false;
  }
}
