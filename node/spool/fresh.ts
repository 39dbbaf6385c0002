/**
 * Contents that were just stored, for the claim that mostly follows at once: read from the database, one of
 * 100 KB is copied four times, kept here not once. What is not claimed soon makes room for what is newer.
 */
import { free } from '../freeing.ts';

/**
 * Of one recipient: signatures, prefix and body, in this order, in memory of their own. The prefix begins at `split`,
 * the body at `body_at`; there is none where the body is a file.
 */
export type Content = { bytes: Buffer; split: number; body_at: number };

/** Octets. Some messages for each session that may be open. */
const maxBytes = 8 * 1024 * 1024;

export class Fresh {
  readonly #contents = new Map<number, Content>();
  #bytes = 0;

  /** @param seq of the recipient */
  keep(seq: number, content: Content): void {
    this.#contents.set(seq, content);
    this.#bytes += content.bytes.length;
    for (const oldest of this.#contents.keys()) {
      if (this.#bytes <= maxBytes) return;
      free(this.take(oldest)!.bytes);
    }
  }

  /** Once: whoever asks again reads the row. */
  take(seq: number): Content | undefined {
    const content = this.#contents.get(seq);
    if (!content) return undefined;
    this.#contents.delete(seq);
    this.#bytes -= content.bytes.length;
    return content;
  }

  /** To be called when a transaction that stored was rolled back. */
  forget(): void {
    this.#contents.clear();
    this.#bytes = 0;
  }
}
