/**
 * The configuration of a sandbox cooperative: what an operator would write, for loopback.
 *
 * They differ only in name, domain, ports and peers.
 */
import { apexOf, type CooperativeCast, didOf, portsOf, type ResidentCast } from './cast.ts';
import type { CooperativePorts, Ports } from './ports.ts';

/** Members are past their first days at once, so that what is tried is not refused for being new. */
const warm = {
  caps: { warmingDays: 0, tiers: { standard: { perHour: 100_000, perDay: 1_000_000 } } },
  listing: { newcomerDays: 0 },
};

/** @returns the text of `atmos.jsonc`; paths in it are relative to the file */
export function configurationOf(cast: ResidentCast, ports: Ports, o: { warming: boolean }): string {
  const { own, peer } = portsOf(cast.key, ports);
  return configurationAt(own, cast, ports, { ...o, peers: [didOf(peer)] });
}

/** The same for any cooperative of this world. @param o.peers DIDs that it guarantees */
export function configurationAt(
  own: CooperativePorts,
  cast: CooperativeCast,
  ports: Ports,
  o: { warming: boolean; peers: string[] },
): string {
  const listen = Object.fromEntries(Object.entries(own).map(([name, port]) => [name, `127.0.0.1:${port}`]));
  const configuration = {
    name: cast.name,
    domain: cast.domain,
    did: didOf(own),
    publicUrl: `http://127.0.0.1:${own.web}`,
    labelerUrl: `http://localhost:${own.web}`,
    stateDir: './state',
    roles: ['labeler', 'relay', 'inbound', 'appview', 'dns', 'web'],
    listen,
    network: {
      loopbackOnly: true,
      plcUrl: `http://localhost:${ports.plc}`,
      resolvers: [`127.0.0.1:${ports.resolver}`],
    },
    firehose: [`ws://localhost:${ports.pds}`],
    peers: o.peers.map((did) => ({ did, stance: 'guarantee' })),
    dns: {
      apex: apexOf(cast),
      nameservers: [`ns1.${cast.domain}`],
      hostmaster: `hostmaster@${cast.domain}`,
      // Two nodes, a PDS and the rest share 600 MB.
      workers: 0,
    },
    delivery: { port: ports.inbox.smtp, tls: 'required' },
    signing: { rest: '1s' },
    declaration: { description: 'A cooperative of the sandbox', sendingAddresses: ['127.0.0.1'] },
    labeler: { reverifyInterval: '24h', retryUnverified: '2s' },
    ...(o.warming ? {} : warm),
  };
  return `// Written by the sandbox at every start; changes here are lost.\n${JSON.stringify(configuration, null, 2)}\n`;
}
