/** Why something cannot be done with a peer: an expected outcome, in words for the operator. */
export type PeerRefusalCode =
  /** It is us. */
  | 'own'
  | 'already-a-peer'
  | 'not-a-peer'
  /** The configuration has it: no command changes it. */
  | 'configured'
  /** No DID, or two, behind the name. */
  | 'unknown-name'
  /** The DID document has no labeler or no label key. */
  | 'no-labeler'
  | 'bad-declaration'
  /** No answer now; a later try may bring one. */
  | 'unavailable'
  /** Not what was shown before it was agreed to. */
  | 'changed'
  /** No key waits, nothing is quarantined. */
  | 'nothing-to-do'
  | 'too-many';

export class PeerRefused extends Error {
  override name = 'PeerRefused';
  readonly code: PeerRefusalCode;

  constructor(code: PeerRefusalCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Asking the same again brings the same. */
export function badDeclaration(message: string, cause?: Error): PeerRefused {
  return new PeerRefused('bad-declaration', message, cause && { cause });
}

/** @param status HTTP, other than 200 */
export function unanswered(url: string, { status }: { status: number }): PeerRefused {
  if (status >= 500 || status === 429) return new PeerRefused('unavailable', `${url} answered ${status}.`);
  return badDeclaration(`${url} answered ${status}, and no declaration.`);
}
