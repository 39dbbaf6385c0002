/** Keys, a signer and mailauth's verdict, for the tests of signing. */
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';
import pino from 'pino';
import { dkimRecord, makeDkimKeys } from '../../node/members/dkim-keys.ts';
import { Signer, type SignerOptions, type SigningKey } from '../../node/relay/signing.ts';

const made = await makeDkimKeys('s');
const poolMade = (await makeDkimKeys('pool')).find(({ algorithm }) => algorithm === 'rsa')!;

export const memberKeys: SigningKey[] = made.map((key) => ({ ...key, domain: 'reef.test' }));
export const poolKey: SigningKey = { ...poolMade, domain: 'harbor.test' };
export const signedAt = Date.UTC(2026, 10, 20);

/** DNS name → TXT, for those keys. */
export const records: Record<string, string> = Object.fromEntries([
  ...made.map((key) => [`${key.selector}._domainkey.reef.test`, dkimRecord(key.algorithm, key.publicKey)]),
  [`${poolMade.selector}._domainkey.harbor.test`, dkimRecord('rsa', poolMade.publicKey)],
]);

export function startSigner(o: Partial<SignerOptions> = {}): Signer {
  return Signer.start({
    memberKeys: () => memberKeys,
    poolKey,
    expireMs: 4 * 86_400_000,
    now: () => signedAt,
    log: pino({ enabled: false }),
    ...o,
  });
}

export type Verdict = { domain: string; algorithm: string; result: string };

/** What mailauth finds, in the order of the signatures. */
export async function verifyWithMailauth(
  message: Buffer,
  names: Record<string, string> = records,
): Promise<Verdict[]> {
  const resolver = async (name: string) => {
    if (names[name] === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
    return [[names[name]]];
  };
  const { results } = await dkimVerify(message, { resolver, curTime: new Date(signedAt) } as object);
  return results.map(({ signingDomain, algo, status }) => ({
    domain: String(signingDomain),
    algorithm: String(algo),
    result: String(status.result),
  }));
}
