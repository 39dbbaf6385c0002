/**
 * Is this mail exchanger the machine that asks?
 *
 * Where this node takes mail on port 25 itself, being one's own exchanger is no loop but the end of the way;
 * where it does not, mail for such a host would come back to nobody (RFC 5321 §5.1).
 */
import { networkInterfaces } from 'node:os';
import { isLoopback } from '../../appview/identity/address.ts';

/**
 * @param o.hostname our name in SMTP
 * @returns for route.ts. Addresses of loopback say nothing: in a sandbox everybody has them
 */
export function isOurselves(o: { hostname: string; takesMail: boolean }) {
  if (o.takesMail) return () => false;
  const own = new Set(
    Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .map(({ address }) => address)
      .filter((address) => !isLoopback(address)),
  );
  return (name: string, address: string) => name === o.hostname || own.has(address);
}
