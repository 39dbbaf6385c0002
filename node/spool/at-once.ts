/**
 * A claim in the answer to an acceptance: for a message whose turn it is as soon as it is on disk.
 *
 * It spares the question, reading the row back, and the memory for that: what was stored comes with the answer.
 */
import type { Claim, NewMessage, NewRecipient } from './message.ts';
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

/** The body comes with the claim, so it has to fit into a row (accepting.ts). */
export const maxBodyAtOnce = 256 * 1024;

/** Its one recipient is due when it is accepted, and nothing else enters with it. */
export function canBeginAtOnce({ body, recipients, sendAt, hold, notices }: NewMessage): boolean {
  const isAlone = recipients.length === 1 && recipients[0]!.refused === undefined && notices === undefined;
  return isAlone && sendAt === undefined && hold === undefined && body.length <= maxBodyAtOnce;
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

export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1).toLowerCase();
}
