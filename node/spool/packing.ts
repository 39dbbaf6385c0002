/** Bytes between the threads: moved, not copied. */
import type { NewMessage } from './message.ts';

/**
 * Copies of the exact bytes, to be moved to the worker: a Buffer is often a view into a larger pool,
 * and posting it would clone all of that.
 */
export function packed(message: NewMessage): { sent: NewMessage; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = [];
  return { sent: exactMessage(message, transfer), transfer };
}

function exactMessage(message: NewMessage, transfer: ArrayBuffer[]): NewMessage {
  const exact = (bytes: Buffer): Buffer => {
    const copy = new Uint8Array(bytes);
    transfer.push(copy.buffer);
    return copy as Buffer;
  };
  const recipients = message.recipients.map((r) => ({
    ...r,
    signatures: exact(r.signatures),
    prefix: exact(r.prefix),
  }));
  const sent = { ...message, body: exact(message.body), recipients };
  if (message.notices) sent.notices = message.notices.map((notice) => exactMessage(notice, transfer));
  return sent;
}

/** A Buffer arrives as a plain Uint8Array. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
