/** The label values that have a meaning here (DESIGN.md, Labels). Written nowhere else. */

/** Enrolled at the issuer, and the domain's DNS is right: on the attestation's URI with its `cid`, the vote. */
export const verifiedMailOperator = 'verified-mail-operator';

/** May send through the issuer's relay, as the attestation says it does. */
export const relayMember = 'relay-member';

/** By the issuer's own relay's figures of the last 30 days. */
export const cleanSender = 'clean-sender';

/** Also for mailing lists: an operator's act, on the attestation's URI. */
export const listSender = 'list-sender';

/** Before the reason (labels/signal.ts): a suspension that was made public; `exp` is the end of its term. */
export const suspendedPrefix = 'suspended-';
