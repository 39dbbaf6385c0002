/**
 * A claim in the answer to an acceptance: for a message whose turn it is as soon as it is on disk.
 *
 * It spares the question, reading the row back, and the memory for that: what was stored comes with the answer.
 */
import { type Claim, domainOf, maxBodyInRow, type NewMessage, type NewRecipient } from './message.ts';
import { asBuffer } from './packing.ts';
import type { Claimed } from './protocol.ts';

/** Who begins at once. */
export type Taker = {
  /** Asked before the acceptance; where it says yes, answered() follows, once. */
  wants(message: NewMessage): boolean;
  /** Something else shall become of mail that waits: what was not begun is given back. */
  recall(): void;
  /** @param size of the body, as it was offered. @param claim absent: nothing was claimed */
  answered(size: number, claim?: Claim): void;
};

/** Nothing else enters with it, and its body comes with the claim. */
export function canBeginAtOnce(message: NewMessage): boolean {
  return isDueAlone(message) && message.notices === undefined && message.body.length <= maxBodyInRow;
}

/** It has one recipient, who is due when it is accepted. */
export function isDueAlone({ recipients, sendAt, hold }: NewMessage): boolean {
  const isAlone = recipients.length === 1 && recipients[0]!.refused === undefined;
  return isAlone && sendAt === undefined && hold === undefined;
}

/** As due() would give it. */
export function claimOf(message: NewMessage, { site, bytes, split, body_at }: Claimed): Claim {
  const { queueId, kind, did, domain, mailFrom, receivedAt, expiresAt, keyId, category } = message;
  const { id, address, returnPath, signedAt, notify, orcpt, simulated } = message
    .recipients[0] as NewRecipient;
  const content = asBuffer(bytes);
  return {
    recipientId: id,
    ...{ queueId, kind, did, domain, address },
    recipientDomain: domainOf(address),
    returnPath,
    signatures: content.subarray(0, split),
    signedAt,
    prefix: content.subarray(split, body_at),
    attempts: 0,
    ...{ receivedAt, expiresAt, mailFrom, site },
    size: content.length - body_at,
    body: content.subarray(body_at),
    ...{ keyId, category },
    requireTls: message.requireTls === true,
    simulated: simulated === true,
    delayNoticed: false,
    ...{ ret: message.ret, envid: message.envid, notify, orcpt },
  };
}
