/** Where a subscriber of one of our streams goes on. */
import type { IncomingMessage } from 'node:http';

/** @returns undefined where none is given */
export function streamCursor(request: IncomingMessage): number | 'invalid' | undefined {
  const text = new URL(request.url ?? '', 'http://localhost').searchParams.get('cursor');
  // An empty value is what clients send for "none".
  if (text === null || text === '') return undefined;
  const cursor = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(cursor) ? cursor : 'invalid';
}
