/** Places for transfers under way: so many at once, each for so long and so much. */
import type { Client } from '../seams.ts';
import type { TransferLimits } from './limits.ts';

/** Of an IPv6 address: 56 bits, what one network has at most. */
const PREFIX_OCTETS = 7;

/** A transfer that has to end: the connection ends with it, so nobody takes the part for the whole. */
export class TransferCut extends Error {
  readonly reason: 'time' | 'octets' | 'stopped';

  constructor(reason: 'time' | 'octets' | 'stopped') {
    super(`the transfer was cut: ${reason}`);
    this.reason = reason;
  }
}

export class Slots {
  readonly #limits: TransferLimits;
  readonly #taken = new Set<Slot>();

  constructor(limits: TransferLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#taken.size;
  }

  /** @returns undefined when all are taken, or all of this peer */
  take(client: Client): Slot | undefined {
    const peer = Buffer.from(client.address.subarray(0, PREFIX_OCTETS)).toString('hex');
    const ofPeer = [...this.#taken].filter((slot) => slot.peer === peer).length;
    const { maxTransfers, maxTransfersPerPeer } = this.#limits;
    if (this.#taken.size >= maxTransfers || ofPeer >= maxTransfersPerPeer) return undefined;
    const slot = new Slot(peer, this.#limits, () => this.#taken.delete(slot));
    this.#taken.add(slot);
    return slot;
  }

  /** Ends all transfers, each before its next message. */
  stop(): void {
    for (const slot of this.#taken) slot.cut('stopped');
  }
}

export class Slot {
  readonly peer: string;
  readonly #maxOctets: number;
  readonly #free: () => void;
  readonly #timer: NodeJS.Timeout;
  #octets = 0;
  #cut: TransferCut | undefined;
  #onCut: (() => void) | undefined;

  constructor(peer: string, limits: TransferLimits, free: () => void) {
    this.peer = peer;
    this.#maxOctets = limits.maxTransferOctets;
    this.#free = free;
    this.#timer = setTimeout(() => this.cut('time'), limits.maxTransferMs).unref();
  }

  /** What the transfer holds, to be let go even while its client takes nothing. */
  onCut(release: () => void): void {
    this.#onCut = release;
  }

  cut(reason: TransferCut['reason']): void {
    this.#cut ??= new TransferCut(reason);
    this.#onCut?.();
    this.release();
  }

  /** @throws TransferCut when the transfer may not go on */
  spend(octets: number): void {
    this.#octets += octets;
    if (this.#octets > this.#maxOctets) this.cut('octets');
    if (this.#cut) throw this.#cut;
  }

  release(): void {
    clearTimeout(this.#timer);
    this.#free();
  }
}
