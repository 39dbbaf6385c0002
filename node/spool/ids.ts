/**
 * Queue ids: the name of a message from `250 … queued as <id>` to its last log line.
 *
 * 16 characters of base32hex in lower case: nine carry Unix ms, seven are random. The alphabet of
 * RFC 4648 §7 keeps the order of numbers, so sorting ids sorts by acceptance and new rows of the
 * spool append instead of scattering.
 */
import { randomInt } from 'node:crypto';

const digits = '0123456789abcdefghijklmnopqrstuv';
const timeLength = 9;
const randomLength = 7;

/** Recipients of one message at most, and the factor between a message's seq and those of its recipients. */
export const recipientsPerMessage = 65_536;

/** Unique but for a chance of 1 in 2^35 for two messages of the same millisecond; the spool refuses a repeated id. */
export function newQueueId(now: () => number = Date.now): string {
  return base32(now(), timeLength) + base32(randomInt(32 ** randomLength), randomLength);
}

/** @param number from 1, in the order of the envelope */
export function recipientId(queueId: string, number: number): string {
  return `${queueId}.${number}`;
}

/** The parts of a recipient id; undefined when it is none. */
export function partsOf(id: string): { queueId: string; number: number } | undefined {
  const match = /^(.+)\.([1-9]\d{0,4})$/.exec(id);
  const number = Number(match?.[2]);
  return match && number < recipientsPerMessage ? { queueId: match[1]!, number } : undefined;
}

function base32(value: number, length: number): string {
  let text = '';
  for (let rest = value; text.length < length; rest = Math.floor(rest / 32)) text = digits[rest % 32] + text;
  return text;
}
