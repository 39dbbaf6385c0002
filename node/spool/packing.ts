/** Bytes between the threads: moved, not copied. */
import type { NewMessage } from './message.ts';

/**
 * A copy of the exact bytes in one piece of memory, to be moved to the worker: a Buffer is often a view into
 * a larger pool, and posting it would clone all of that.
 */
export function packed(message: NewMessage): { sent: NewMessage; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = [];
  return { sent: exactMessage(message, transfer), transfer };
}

function exactMessage(message: NewMessage, transfer: ArrayBuffer[]): NewMessage {
  const { body, recipients: all, notices } = message;
  const length = all.reduce((sum, r) => sum + r.signatures.length + r.prefix.length, body.length);
  const memory = Buffer.allocUnsafeSlow(length);
  transfer.push(memory.buffer);
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
  const sent = { ...message, body: exact(body), recipients };
  if (notices) sent.notices = notices.map((notice) => exactMessage(notice, transfer));
  return sent;
}

/** A Buffer arrives as a plain Uint8Array. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
