/**
 * MTA-STS policies of recipient domains (RFC 8461): found in DNS, fetched over HTTPS, remembered.
 *
 * Promise: a policy that was fetched once stays in force for its max_age, whatever becomes of the TXT
 * record or the web server since then: an attacker who silences them changes nothing. It is fetched again
 * when the id changes and once a day; a fetch that failed is not repeated within five minutes. A domain
 * without a record, or whose first fetch fails, has no policy (§3.1, §3.3): `none` and `unknown`.
 * The memory is this process's: a restart, or more domains than `maxEntries`, forgets.
 *
 * The grammar of records, policies and patterns is mailauth's. Its getPolicy is not used: it connects
 * to whatever address DNS gives, so a stranger's domain could lead it into our own network. It is loaded with
 * the first record that is found: with all that it brings it takes 15 MB.
 */
import { createRequire } from 'node:module';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import type { Resolver } from '../resolver.ts';

export type StsPolicy = { mode: 'enforce' | 'testing' | 'none'; mx: readonly string[] };

export type Found =
  | { kind: 'policy'; policy: StsPolicy }
  /** The domain publishes none. */
  | { kind: 'none' }
  /** DNS or the web server did not say. */
  | { kind: 'unknown' };

export type MtaStsOptions = {
  resolver: Pick<Resolver, 'txt'>;
  fetch: GuardedFetch;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /** Domains that have a policy; default 10,000. */
  maxEntries?: number;
};

const require = createRequire(import.meta.url);
const grammar = () => require('mailauth/lib/mta-sts.js') as typeof import('mailauth/lib/mta-sts.js');

type Known = { id: string; policy?: StsPolicy; until: number; refreshAt: number; retryAt: number };

const minute = 60_000;
const day = 24 * 60 * minute;
const retryMs = 5 * minute;
/** RFC 8461 §3.3. */
const maxPolicyBytes = 64 * 1024;
const fetchMs = 20_000;

export class MtaSts {
  readonly #options: MtaStsOptions;
  /** The one that was asked for longest ago comes first. */
  readonly #known = new Map<string, Known>();
  readonly #asking = new Map<string, Promise<Found>>();

  constructor(options: MtaStsOptions) {
    this.#options = options;
  }

  /** What is in force now. @param domain in A-labels */
  policyOf(domain: string): Promise<Found> {
    const open = this.#asking.get(domain);
    if (open) return open;
    const asking = this.#find(domain).finally(() => this.#asking.delete(domain));
    this.#asking.set(domain, asking);
    return asking;
  }

  async #find(domain: string): Promise<Found> {
    const { now, resolver } = this.#options;
    const known = this.#known.get(domain);
    if (known) this.#remember(domain, known);
    const id = await idOf(domain, resolver);
    if (typeof id === 'string' && this.#mustFetch(known, id)) await this.#fetch(domain, id, known);
    const { policy, until = 0 } = this.#known.get(domain) ?? {};
    if (policy && until > now()) return { kind: 'policy', policy };
    return { kind: id === undefined ? 'none' : 'unknown' };
  }

  #mustFetch(known: Known | undefined, id: string): boolean {
    if (!known) return true;
    const now = this.#options.now();
    if (now < known.retryAt) return false;
    return known.id !== id || now >= known.refreshAt || now >= known.until;
  }

  async #fetch(domain: string, id: string, known: Known | undefined): Promise<void> {
    const { now, count } = this.#options;
    try {
      const { policy, maxAgeMs } = await this.#get(domain);
      const at = now();
      const fetched = {
        id,
        policy,
        until: at + maxAgeMs,
        refreshAt: at + Math.min(day, maxAgeMs / 2),
        retryAt: 0,
      };
      this.#remember(domain, fetched);
      count('mta_sts_fetches', policy.mode);
    } catch {
      count('mta_sts_fetches', 'failed');
      const old = known ?? { id: '', until: 0, refreshAt: 0 };
      this.#remember(domain, { ...old, retryAt: now() + retryMs });
    }
  }

  /** @throws Error for whatever is not a policy */
  async #get(domain: string): Promise<{ policy: StsPolicy; maxAgeMs: number }> {
    const url = `https://mta-sts.${domain}/.well-known/mta-sts.txt`;
    const { status, headers, body } = await this.#options.fetch(url, {
      maxBytes: maxPolicyBytes,
      timeoutMs: fetchMs,
    });
    // §3.3: redirects are not followed, and anything but 200 is no policy.
    if (status !== 200) throw new Error(`HTTP ${status}`);
    const type = String(headers['content-type'] ?? '').split(';')[0]!;
    if (type.trim().toLowerCase() !== 'text/plain') throw new Error('not text/plain');
    const { mode, mx = [], maxAge } = grammar().parsePolicy(Buffer.from(body), { strict: true }) as Parsed;
    return { policy: { mode, mx }, maxAgeMs: maxAge * 1000 };
  }

  #remember(domain: string, known: Known): void {
    this.#known.delete(domain);
    const { maxEntries = 10_000 } = this.#options;
    if (this.#known.size >= maxEntries) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(domain, known);
  }
}

type Parsed = { mode: StsPolicy['mode']; mx?: string[]; maxAge: number };

/** Whether the policy names this exchanger. */
export function permits({ mode, mx }: StsPolicy, exchanger: string): boolean {
  return grammar().validateMx(exchanger, { mode, mx: [...mx] }).valid;
}

/** Undefined without a record, with several, or with one that is not well formed (§3.1); false when nobody could say. */
async function idOf(domain: string, resolver: Pick<Resolver, 'txt'>): Promise<string | false | undefined> {
  const answer = await resolver.txt(`_mta-sts.${domain}`);
  if (answer.kind === 'failed') return false;
  if (answer.kind !== 'found') return undefined;
  const records = answer.records.map((text) => [text]);
  try {
    const id = await grammar().resolvePolicy(domain, {
      strict: true,
      resolver: () => Promise.resolve(records),
    });
    return id || undefined;
  } catch {
    return undefined;
  }
}
