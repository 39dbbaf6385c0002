/** Bytes between the threads: moved where they are given away, and freed by whoever needs them last. */
import { freeWhole, isWhole } from '../freeing.ts';
import type { Claim, NewMessage } from './message.ts';

/**
 * The exact bytes in memory that is moved to the worker: a copy of them, because a Buffer is often a view into a
 * larger pool, and posting it would clone all of that. A body that may be given away is not copied.
 */
export function packed(message: NewMessage): { sent: NewMessage; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = [];
  return { sent: exactMessage(message, transfer), transfer };
}

function exactMessage(message: NewMessage, transfer: ArrayBuffer[]): NewMessage {
  const { body, recipients: all, notices, givesBody } = message;
  const moved = givesBody && isWhole(body) ? body : undefined;
  const length = all.reduce((sum, r) => sum + r.signatures.length + r.prefix.length, moved ? 0 : body.length);
  const memory = Buffer.allocUnsafeSlow(length);
  transfer.push(memory.buffer);
  if (moved) transfer.push(moved.buffer);
  let end = 0;
  const exact = (bytes: Buffer): Buffer => {
    const start = end;
    end += bytes.copy(memory, start);
    return memory.subarray(start, end);
  };
  const recipients = all.map((r) => ({
    ...r,
    signatures: exact(r.signatures),
    prefix: exact(r.prefix),
  }));
  const sent = { ...message, body: moved ? body : exact(body), recipients };
  if (notices) sent.notices = notices.map((notice) => exactMessage(notice, transfer));
  return sent;
}

/** In the worker, when nobody will look at it again. The memory of each part is the message's own. */
export function freePacked({ body, notices = [] }: NewMessage): void {
  freeWhole(body);
  for (const notice of notices) freePacked(notice);
}

/** When nobody will look at its body again, nor at the lines before it, which stand in the same memory. */
export function freeClaim({ signatures, prefix, body }: Claim): void {
  if (!body || body.length === 0) return;
  const { buffer } = body;
  const isItsOwn = signatures.byteOffset === 0 && signatures.buffer === buffer && prefix.buffer === buffer;
  if (isItsOwn && body.byteOffset + body.length === buffer.byteLength) freeWhole(body);
}

/** A Buffer arrives as a plain Uint8Array. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
