/** Whether what arrived is signed by whom it should be, judged by dkimpy. */
import { verifyWithDkimpy } from '../../dkimpy.ts';
import { needs } from '../../peers.ts';
import { type DnsText, poolDomain, senderDomain } from './system.ts';

/** @throws when a signature is bad, or one of the two domains has none. Without dkimpy nothing is checked. */
export async function verifySignatures(messages: Buffer[], records: DnsText[]): Promise<void> {
  if (needs('python3-dkim')) return;
  const dns = Object.fromEntries(records.map(({ name, value }) => [name, value]));
  for (const message of messages) {
    // As on the wire: the final dot is not part of the message, nor are doubled dots.
    const text = message
      .toString('latin1')
      .replace(/\r\n\.\r\n$/, '\r\n')
      .replaceAll('\r\n..', '\r\n.');
    const verdicts = await verifyWithDkimpy(Buffer.from(text, 'latin1'), dns);
    const isGood = (domain: string) => verdicts.includes(`${domain} rsa-sha256 True`);
    if (![senderDomain, poolDomain].every(isGood) || !verdicts.every((one) => one.endsWith(' True'))) {
      throw new Error(`signatures of what arrived: ${verdicts.join('; ')}`);
    }
  }
}
