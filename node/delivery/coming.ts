/**
 * Mail that is being accepted and may come to hand in the answer to that, without a question to the spool.
 *
 * It is wanted where the destination is known and in order, and the hand has room for it beside all else
 * that comes. With nothing else due the spool then claims it in the commit of its acceptance.
 */
import { domainOf } from '../spool/message.ts';
import type { Claim, NewMessage, Taker } from '../spool/spool.ts';

export type ComingOptions = {
  /** The site that mail goes to, where it is known. */
  siteOf: (asked: Pick<Claim, 'recipientDomain' | 'requireTls'>) => string | undefined;
  hand: {
    canHold(site: string, did: string, more: { claims: number; bytes: number }): boolean;
    take(claim: Claim): void;
    recall(): void;
  };
};

export class Coming implements Taker {
  readonly #options: ComingOptions;
  #claims = 0;
  #bytes = 0;

  constructor(options: ComingOptions) {
    this.#options = options;
  }

  wants({ did, recipients, requireTls = false, body }: NewMessage): boolean {
    const { siteOf, hand } = this.#options;
    const site = siteOf({ recipientDomain: domainOf(recipients[0]!.address), requireTls });
    const more = { claims: this.#claims + 1, bytes: this.#bytes + body.length };
    if (site === undefined || !hand.canHold(site, did, more)) return false;
    this.#claims = more.claims;
    this.#bytes = more.bytes;
    return true;
  }

  recall(): void {
    this.#options.hand.recall();
  }

  answered(size: number, claim?: Claim): void {
    this.#claims -= 1;
    this.#bytes -= size;
    if (claim) this.#options.hand.take(claim);
  }
}
