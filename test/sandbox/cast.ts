/**
 * Who lives in the sandbox: two cooperatives that are peers, and a member of each. And who may join: a third
 * cooperative, a stranger to both.
 */
import type { CooperativePorts, Ports } from './ports.ts';

export type CooperativeKey = 'harbor' | 'meadow';

export type CooperativeCast = {
  name: string;
  /** Pool domain. */
  domain: string;
};

/** One of those that are there from the start. */
export type ResidentCast = CooperativeCast & { key: CooperativeKey };

export type MemberCast = {
  handle: string;
  /** The first one is the handle. */
  domains: string[];
  home: CooperativeKey;
};

export const cooperatives: ResidentCast[] = [
  { key: 'harbor', name: 'Harbor', domain: 'harbor.test' },
  { key: 'meadow', name: 'Meadow', domain: 'meadow.test' },
];

export const members: MemberCast[] = [
  { handle: 'reef.test', domains: ['reef.test', 'news.reef.test'], home: 'harbor' },
  { handle: 'orchard.test', domains: ['orchard.test'], home: 'meadow' },
];

/** Started by `npm start -- --join`; nobody knows it before `atmos peer add`. */
export const newcomer: CooperativeCast = { name: 'Dune', domain: 'dune.test' };
export const newcomersMember = { handle: 'kelp.test', domains: ['kelp.test'] };

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
