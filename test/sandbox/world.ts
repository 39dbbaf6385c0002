/**
 * `world.json`: everything that a person or a test needs to use the running sandbox.
 *
 * It holds passwords and API keys, so its mode is 0600. Readers may rely on this shape.
 */
import { join } from 'node:path';
import { apexOf, type CooperativeCast, cooperatives, didOf } from './cast.ts';
import type { Membership } from './memberships.ts';
import type { CooperativePorts, Ports } from './ports.ts';
import { writeSecret } from './secrets.ts';

export type Endpoint = { host: string; port: number };

export type CooperativeWorld = {
  name: string;
  did: string;
  poolDomain: string;
  /** Base URLs without a path. */
  web: string;
  labeler: string;
  appview: string;
  /** SMTP with STARTTLS. */
  submission: Endpoint;
  /** SMTP with implicit TLS. */
  submissions: Endpoint;
  inbound: Endpoint;
  dns: Endpoint & { apex: string };
};

export type World = {
  plc: string;
  pds: string;
  resolver: Endpoint;
  inbox: { smtp: Endpoint; web: string };
  cooperatives: CooperativeWorld[];
  members: {
    handle: string;
    did: string;
    password: string;
    domain: string;
    domains: string[];
    /** The name of a cooperative. */
    home: string;
    apiKey: string;
  }[];
};

export function worldOf(ports: Ports, memberships: Membership[]): World {
  return {
    plc: `http://localhost:${ports.plc}`,
    pds: `http://localhost:${ports.pds}`,
    resolver: at(ports.resolver),
    inbox: { smtp: at(ports.inbox.smtp), web: `http://127.0.0.1:${ports.inbox.web}` },
    cooperatives: cooperatives.map((cast) => cooperativeWorld(cast.key, cast, ports[cast.key])),
    members: memberships.map(({ handle, did, password, domains, home, apiKey }) => ({
      handle,
      did,
      password,
      domain: domains[0]!,
      domains,
      home,
      apiKey,
    })),
  };
}

export function cooperativeWorld(
  name: string,
  cast: CooperativeCast,
  own: CooperativePorts,
): CooperativeWorld {
  return {
    name,
    did: didOf(own),
    poolDomain: cast.domain,
    // OAuth's loopback redirect needs the address; the DID needs the name.
    web: `http://127.0.0.1:${own.web}`,
    labeler: `http://localhost:${own.web}`,
    appview: `http://127.0.0.1:${own.web}`,
    submission: at(own.submission),
    submissions: at(own.submissions),
    inbound: at(own.inbound),
    dns: { ...at(own.dns), apex: apexOf(cast) },
  };
}

function at(port: number): Endpoint {
  return { host: '127.0.0.1', port };
}

/** @returns the path of the file */
export function writeWorld(folder: string, world: World): string {
  const file = join(folder, 'world.json');
  writeSecret(file, world);
  return file;
}
