/** The label values that have a meaning here (DESIGN.md, Labels). Written nowhere else. */

/** Enrolled at the issuer, and the domain's DNS is right: on the attestation's URI with its `cid`, the vote. */
export const verifiedMailOperator = 'verified-mail-operator';

/** May send through the issuer's relay, as the attestation says it does. */
export const relayMember = 'relay-member';
