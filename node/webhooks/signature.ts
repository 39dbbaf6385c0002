/**
 * Standard Webhooks: secrets, and the header that proves who wrote a request.
 *
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
import { createHmac, randomBytes } from 'node:crypto';

const prefix = 'whsec_';

/** @returns `whsec_` and the base64 of 32 random bytes; the spec asks for 24 to 64 */
export function newSecret(): string {
  return prefix + randomBytes(32).toString('base64');
}

/**
 * @param secrets each gives a signature: the new one and, while a change goes on, the old one
 * @param o.id the same at each try, so that a receiver can tell a repetition
 * @param o.at Unix ms of this try
 */
export function signedHeaders(secrets: readonly string[], o: { id: string; at: number; body: string }) {
  const timestamp = Math.floor(o.at / 1000);
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(prefix.length), 'base64');
    return `v1,${createHmac('sha256', key).update(`${o.id}.${timestamp}.${o.body}`).digest('base64')}`;
  });
  return {
    'webhook-id': o.id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signatures.join(' '),
  };
}
