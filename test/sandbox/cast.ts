/**
 * Who lives in the sandbox: two cooperatives that are peers, and a member of each.
 */
import type { CooperativePorts, Ports } from './ports.ts';

export type CooperativeKey = 'harbor' | 'meadow';

export type CooperativeCast = {
  key: CooperativeKey;
  name: string;
  /** Pool domain. */
  domain: string;
};

export type MemberCast = {
  handle: string;
  /** The first one is the handle. */
  domains: string[];
  home: CooperativeKey;
};

export const cooperatives: CooperativeCast[] = [
  { key: 'harbor', name: 'Harbor', domain: 'harbor.test' },
  { key: 'meadow', name: 'Meadow', domain: 'meadow.test' },
];

export const members: MemberCast[] = [
  { handle: 'reef.test', domains: ['reef.test', 'news.reef.test'], home: 'harbor' },
  { handle: 'orchard.test', domains: ['orchard.test'], home: 'meadow' },
];

export function didOf(ports: CooperativePorts): string {
  return `did:web:localhost%3A${ports.web}`;
}

export function apexOf(cooperative: CooperativeCast): string {
  return `list.${cooperative.domain}`;
}

/** @returns the ports of the cooperative, and of its peer */
export function portsOf(
  key: CooperativeKey,
  ports: Ports,
): { own: CooperativePorts; peer: CooperativePorts } {
  return { own: ports[key], peer: ports[key === 'harbor' ? 'meadow' : 'harbor'] };
}
