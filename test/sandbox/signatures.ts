/**
 * Which DKIM signatures of a caught message hold, asked of the DNS world at the moment it came in.
 */
import { Resolver } from 'node:dns/promises';
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';

export type SignatureVerdict = {
  /** The d= of the signature. */
  domain: string;
  selector: string;
  /** Such as `rsa-sha256`. */
  algorithm: string;
  /** RFC 8601 §2.7.1: pass, fail, neutral, policy, temperror, permerror; `none` without a signature. */
  result: string;
  /** Why it is no pass. */
  comment?: string;
};

export type SignatureCheck = (raw: Buffer) => Promise<SignatureVerdict[]>;

/** @param dns the DNS server that has the keys */
export function signatureCheck(dns: { host: string; port: number }): SignatureCheck {
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  resolver.setServers([`${dns.host}:${dns.port}`]);
  return async (raw) => {
    const { results } = await dkimVerify(raw, {
      resolver: (name, type) => resolver.resolve(name, type) as Promise<string[][] | string[]>,
    });
    return results
      .filter(({ signingDomain }) => signingDomain)
      .map(({ signingDomain, selector, algo, status }) => ({
        domain: String(signingDomain),
        selector: String(selector),
        algorithm: String(algo),
        result: status.result,
        ...(status.comment && { comment: status.comment }),
      }));
  };
}
