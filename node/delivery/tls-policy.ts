/**
 * What TLS each host of a route must offer before it gets a message.
 *
 * Promise: the demand is the strictest of these, and nobody on the way can talk it down:
 *
 * 1. DANE (RFC 7672): where DNSSEC vouches for the names and the addresses of a host and it has TLSA records.
 *    Records that say nothing useful still demand encryption; an answer that failed rules the host out.
 * 2. MTA-STS in mode `enforce` (RFC 8461): only the hosts that the policy names, with a verified certificate.
 *    DANE comes before it: a host that has TLSA records stands or falls by them.
 * 3. REQUIRETLS (RFC 8689 §4.2.1): verified; the names of the hosts must stand on DNSSEC or on a policy.
 * 4. Ours: `required` (encrypted, any certificate) or `opportunistic`, by recipient domain, then by MX site.
 *    An exception of the operator lowers only this, never what the domain itself or the member asks.
 *
 * Answers are remembered by whoever resolves (route-answers.ts), policies by mta-sts.ts.
 */
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import type { Answer, TlsaRecord, TlsaResolver } from '../resolver.ts';
import type { TlsDemand, TlsPolicy } from './client.ts';
import { isUsable } from './dane.ts';
import { type Found, MtaSts, permits } from './mta-sts.ts';
import { type Host, type Route, siteOf } from './route.ts';

export type Demands =
  /** In the order of the route; hosts that may not be used are left out. */
  | { kind: 'hosts'; hosts: { host: Host; demand: TlsDemand }[] }
  /** No host may be used; `status` begins with 4 or 5. */
  | { kind: 'none'; status: string; summary: string };

export type TlsPoliciesOptions = {
  resolver: TlsaResolver;
  fetch: GuardedFetch;
  default: TlsPolicy;
  /** By recipient domain or MX site, in A-labels. */
  exceptions: Readonly<Record<string, TlsPolicy>>;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /** MTA-STS policies that are remembered. Default 10,000. */
  maxEntries?: number;
  /** Of the TLSA names; default 25. */
  port?: number;
};

type Hosts = Extract<Route, { kind: 'hosts' }>;
/** What one host must offer, or why it may not be used. */
type Judged = { host: Host; demand: TlsDemand } | ({ host: Host } & Objection);
/** `isUnanswered`: only because DNS did not say. */
type Objection = { objection: string; isUnanswered?: true };

export class TlsPolicies {
  readonly #options: TlsPoliciesOptions;
  readonly #mtaSts: MtaSts;

  constructor(options: TlsPoliciesOptions) {
    this.#options = options;
    this.#mtaSts = new MtaSts(options);
  }

  /** @param domain the recipient's, in A-labels or an address literal */
  async demandsFor(domain: string, route: Hosts, { requireTls }: { requireTls: boolean }): Promise<Demands> {
    const floor = this.#floor(domain, route);
    if (domain.startsWith('[')) return literalDemands(domain, route, floor, requireTls);
    const [policy, ...daneDemands] = await Promise.all([
      this.#mtaSts.policyOf(domain),
      ...route.hosts.map((host) => this.#dane(domain, host, route.secure === true)),
    ]);
    const judged = route.hosts.map((host, i): Judged => {
      const dane = daneDemands[i];
      if (dane)
        return 'objection' in dane ? { host, ...dane } : { host, demand: raised(dane, requireTls, host) };
      return judgedBy(policy, host, { isNamed: route.secure === true, requireTls, floor });
    });
    return this.#result(domain, judged, requireTls);
  }

  #floor(domain: string, route: Hosts): TlsDemand {
    const { exceptions, default: usual } = this.#options;
    const policy = own(exceptions, domain) ?? own(exceptions, siteOf(route)) ?? usual;
    return policy === 'required' ? { kind: 'encrypted' } : { kind: 'opportunistic' };
  }

  /** RFC 7672 §2.2: nothing without DNSSEC, from the MX to the TLSA records. */
  async #dane(domain: string, host: Host, isNamed: boolean): Promise<TlsDemand | Objection | undefined> {
    if (!isNamed || !host.secure) return undefined;
    // §2.2.2: the name at the end of an alias first, then the one that the MX gives.
    for (const base of new Set([host.canonical ?? host.name, host.name])) {
      const name = `_${this.#options.port ?? 25}._tcp.${base}`;
      const demand = daneDemand(await this.#options.resolver.tlsa(name), [
        ...new Set([base, host.name, domain]),
      ]);
      if (demand) return demand;
    }
    return undefined;
  }

  #result(domain: string, judged: Judged[], requireTls: boolean): Demands {
    const hosts = judged.filter((one) => 'demand' in one);
    if (hosts.length > 0) return { kind: 'hosts', hosts };
    this.#options.count('tls_policy_refusals', requireTls ? 'requiretls' : 'policy');
    const objections = judged.flatMap((one) => ('objection' in one ? [one.objection] : []));
    // A failure to ask counts against nobody (destinations.ts): the answer might have let a host in.
    const isUnanswered = judged.some((one) => 'objection' in one && one.isUnanswered);
    const forNow = isUnanswered ? '4.4.3' : '4.7.5';
    // What DNS could not say may be said later; a promise that the domain does not make is final (RFC 8689 §5).
    const isFinal = requireTls && objections.every((one) => one === unnamed);
    const summary = `no exchanger of ${domain} may be used: ${[...new Set(objections)].join('; ')}`;
    return { kind: 'none', status: isFinal ? '5.7.30' : forNow, summary: summary.slice(0, 500) };
  }
}

const unnamed = 'the message asks for REQUIRETLS, and neither DNSSEC nor MTA-STS vouches for the exchangers';

function own(exceptions: Readonly<Record<string, TlsPolicy>>, name: string): TlsPolicy | undefined {
  return Object.hasOwn(exceptions, name) ? exceptions[name] : undefined;
}

function daneDemand(answer: Answer<TlsaRecord>, names: string[]): TlsDemand | Objection | undefined {
  if (answer.kind === 'failed')
    return { objection: `TLSA records of ${names[0]}: ${answer.reason}`, isUnanswered: true };
  if (answer.kind !== 'found' || !answer.secure) return undefined;
  const records = answer.records.filter(isUsable);
  return records.length > 0 ? { kind: 'dane', names, records } : { kind: 'encrypted' };
}

/** Unusable TLSA records ask for encryption alone; REQUIRETLS asks for more, and DNSSEC vouches for the name. */
function raised(demand: TlsDemand, requireTls: boolean, { name }: Host): TlsDemand {
  return requireTls && demand.kind !== 'dane'
    ? { kind: 'verified', why: 'requiretls', names: [name] }
    : demand;
}

type Circumstances = { isNamed: boolean; requireTls: boolean; floor: TlsDemand };

function judgedBy(found: Found, host: Host, { isNamed, requireTls, floor }: Circumstances): Judged {
  const { name } = host;
  if (found.kind === 'policy' && found.policy.mode === 'enforce') {
    if (!permits(found.policy, name)) return { host, objection: `${name} is not in the MTA-STS policy` };
    return { host, demand: { kind: 'verified', why: 'mta-sts', names: [name] } };
  }
  if (!requireTls) return { host, demand: floor };
  if (isNamed) return { host, demand: { kind: 'verified', why: 'requiretls', names: [name] } };
  return { host, objection: found.kind === 'unknown' ? 'its MTA-STS policy could not be learnt' : unnamed };
}

/** No name that anything could vouch for. */
function literalDemands(domain: string, { hosts }: Hosts, floor: TlsDemand, requireTls: boolean): Demands {
  if (!requireTls) return { kind: 'hosts', hosts: hosts.map((host) => ({ host, demand: floor })) };
  return { kind: 'none', status: '5.7.30', summary: `${domain} has no name that a certificate could be for` };
}
