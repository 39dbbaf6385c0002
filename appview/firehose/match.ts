/**
 * Decides from the undecoded frame whether it can concern us.
 *
 * Nearly no commit touches our collection: looking for its name in the bytes spares the
 * decoding. A match may be false (the words stand in a post), a miss never is: the operations of a
 * commit name their paths in plain text.
 */
import type { FrameHead } from './frame.ts';

export const collection = 'email.atmos.attestation';

const needle = Buffer.from(`${collection}/`);

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

/** The record key when the path is in our collection. */
export function recordKeyOf(path: string): string | undefined {
  return path.startsWith(`${collection}/`) ? path.slice(collection.length + 1) : undefined;
}
