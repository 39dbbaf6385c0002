/**
 * May just anyone send as this domain? SPF asked as a receiver asks it (RFC 7208), for a sender that is on
 * nobody's list.
 *
 * Promise: what the whole record tree says is followed in its order: `include:` and `redirect=`, at most ten
 * lookups and two empty ones (§4.6.4), 20 seconds. `passed` is a record that works and lets not everyone send;
 * `failed` names the way to the term that does, or what makes receivers give up; one answer that does not come
 * leaves all undecided. Networks of addresses are taken for other people's, unless they add up to at least half of
 * IPv4, or of the IPv6 that is in use (spf-reach.ts): that is everyone.
 */
import { type Finding, failed, passed, recordsOf, undecided } from './finding.ts';
import { type Family, SpfReach, widePrefix } from './spf-reach.ts';
import {
  dependsOnMessage,
  expand,
  isSpf,
  type Mechanism,
  parseSpf,
  type Qualifier,
  type Sender,
  type SpfRecord,
} from './spf-record.ts';
import type { Witness } from './witness.ts';

const maxLookups = 10;
const maxVoidLookups = 2;
const maxMxHosts = 10;
const maxElapsedMs = 20_000;

type Result =
  | { kind: 'pass'; because: string }
  | { kind: 'fail' | 'softfail' | 'neutral' }
  | { kind: 'none' | 'permerror' | 'temperror'; because: string };

const byQualifier = { '-': 'fail', '~': 'softfail', '?': 'neutral' } as const;

/** An address for documentation (RFC 5737), of which no mail comes, and a mailbox that nobody has. */
const stranger = { local: 'spf-of-a-stranger', ip4: '192.0.2.1' };

export async function checkSpf(domain: string, witness: Witness): Promise<Finding> {
  const answer = await witness.txt(domain);
  if (answer.kind === 'failed') return undecided(`DNS did not answer: ${answer.reason}`);
  const records = recordsOf(answer).filter(isSpf);
  const seen = { SPF: records.sort().join(' | ') };
  if (records.length === 0) return { ...failed('no SPF record (v=spf1)'), seen };
  if (records.length > 1) return { ...failed(`${records.length} SPF records; RFC 7208 allows one`), seen };
  const walk = new Walk(domain, witness);
  return { ...walk.judge(await walk.follow(records[0]!, [domain], new SpfReach())), seen };
}

class Walk {
  readonly #sender: Sender;
  readonly #witness: Witness;
  readonly #startedAt: number;
  readonly #notes = new Set<string>();
  #lookups = 0;
  #voidLookups = 0;

  constructor(domain: string, witness: Witness) {
    this.#sender = { ...stranger, domain };
    this.#witness = witness;
    this.#startedAt = witness.now();
  }

  judge(result: Result): Finding {
    if (result.kind === 'pass') return failed(`SPF ${result.because}, which lets everyone send`);
    if (result.kind === 'temperror') return undecided(result.because);
    if ('because' in result) return failed(`SPF cannot be followed: ${result.because}`);
    if (result.kind === 'neutral')
      this.#notes.add('SPF says nothing of other senders; end it in "~all" or "-all"');
    return passed('SPF is in place', [...this.#notes]);
  }

  /**
   * @param path the domains from the member's to that of this record
   * @param reach of this record so far
   * @param counts false below an include that lets nobody send
   */
  async follow(text: string, path: string[], reach: SpfReach, counts = true): Promise<Result> {
    const record = parseSpf(text);
    if (typeof record === 'string') return permerror(`${record} (at ${path.at(-1)})`);
    for (const mechanism of record.mechanisms) {
      const match = await this.#match(mechanism, { path, reach, counts });
      if (typeof match !== 'boolean') return match;
      if (match) return outcome(mechanism.qualifier, `has "${mechanism.text}"${along(path)}`);
      if (counts && reach.half) return { kind: 'pass', because: reaches(mechanism, reach.half, path) };
      if (mechanism.kind === 'all') return { kind: 'fail' };
    }
    return this.#redirect(record, { path, reach, counts });
  }

  /** @returns whether it matches the stranger, or the result that ends it all */
  async #match(mechanism: Mechanism, place: Place): Promise<boolean | Result> {
    const { kind, qualifier, address, prefix, target } = mechanism;
    const { path, reach, counts } = place;
    if (kind === 'all') {
      reach.everyone(qualifier);
      // What is left to it may be little.
      return qualifier !== '+' || !counts;
    }
    if (kind === 'ip4' || kind === 'ip6') {
      const family = kind === 'ip4' ? 4 : 6;
      reach.network(qualifier, family, address!, prefix[family]);
      return false;
    }
    const stop = this.#countLookup(mechanism.text, path);
    if (stop) return stop;
    if (kind === 'ptr') {
      this.#notes.add('"ptr" is slow and should not be used (RFC 7208 §5.5)');
      return false;
    }
    const name = expand(target ?? '%{d}', path.at(-1)!, this.#sender);
    if (kind === 'include') return this.#include(mechanism, name, place);
    if (kind === 'mx') return this.#mx(mechanism, name, reach);
    const exists = await this.#hasAddress(name, kind === 'exists' && dependsOnMessage(target!));
    if (kind === 'exists' || typeof exists !== 'boolean') return exists;
    return this.#hosts(mechanism, [name], reach);
  }

  /** RFC 7208 §5.2: only a pass matches, and a domain without a record breaks the one that includes it. */
  async #include({ text, qualifier }: Mechanism, name: string, place: Place): Promise<boolean | Result> {
    const inner = new SpfReach();
    const counts = place.counts && qualifier === '+';
    const result = await this.#ask(name, text, { path: place.path, reach: inner, counts });
    if (result.kind === 'pass') return qualifier === '+' ? result : true;
    if (result.kind === 'none') return permerror(result.because);
    place.reach.included(qualifier, inner);
    return result.kind === 'permerror' || result.kind === 'temperror' ? result : false;
  }

  /** RFC 7208 §6.1: where nothing matched, so no "all" stands in the record. */
  async #redirect({ redirect }: SpfRecord, place: Place): Promise<Result> {
    const { path } = place;
    if (redirect === undefined) return { kind: 'neutral' };
    const text = `redirect=${redirect}`;
    const stop = this.#countLookup(text, path);
    if (stop) return stop;
    const result = await this.#ask(expand(redirect, path.at(-1)!, this.#sender), text, place);
    return result.kind === 'none' ? permerror(result.because) : result;
  }

  async #ask(name: string, term: string, { path, reach, counts }: Place): Promise<Result> {
    if (path.includes(name)) return permerror(`"${term}"${along(path)} leads back to ${name}`);
    const answer = await this.#witness.txt(name);
    if (answer.kind === 'failed') return temperror(name, answer.reason);
    const records = recordsOf(answer).filter(isSpf);
    if (records.length === 0)
      return { kind: 'none', because: `"${term}" names ${name}, which has no SPF record` };
    if (records.length > 1) return permerror(`${records.length} SPF records at ${name}; RFC 7208 allows one`);
    return this.follow(records[0]!, [...path, name], reach, counts);
  }

  async #mx(mechanism: Mechanism, name: string, reach: SpfReach): Promise<boolean | Result> {
    const answer = await this.#witness.mx(name);
    if (answer.kind === 'failed') return temperror(name, answer.reason);
    const hosts = recordsOf(answer);
    if (hosts.length > maxMxHosts)
      return permerror(`"${mechanism.text}" leads to ${hosts.length} hosts; RFC 7208 allows 10`);
    if (hosts.length === 0) return this.#countVoid(name) ?? false;
    // The null MX (RFC 7505) names none.
    const names = hosts.map(({ exchange }) => exchange).filter((host) => host !== '');
    return this.#hosts(mechanism, names, reach);
  }

  /** RFC 7208 §5.3: the addresses are compared in as many bits as `/` and `//` say. Asked only where those are few. */
  async #hosts(
    { qualifier, prefix }: Mechanism,
    names: string[],
    reach: SpfReach,
  ): Promise<boolean | Result> {
    for (const family of [4, 6] as const) {
      if (prefix[family] > widePrefix) continue;
      for (const name of names) {
        const answer = family === 4 ? await this.#witness.a(name) : await this.#witness.aaaa(name);
        if (answer.kind === 'failed') return temperror(name, answer.reason);
        for (const address of recordsOf(answer)) reach.network(qualifier, family, address, prefix[family]);
      }
    }
    return false;
  }

  /** @param isOfMessage the name differs for each message, so that a stranger's is empty proves nothing */
  async #hasAddress(name: string, isOfMessage: boolean): Promise<boolean | Result> {
    const a = await this.#witness.a(name);
    if (a.kind === 'failed') return temperror(name, a.reason);
    if (a.kind === 'found') return true;
    if (isOfMessage) return false;
    // A host with IPv6 alone is not empty for those who come over it.
    const aaaa = a.kind === 'none' ? await this.#witness.aaaa(name) : a;
    if (aaaa.kind === 'failed') return temperror(name, aaaa.reason);
    return aaaa.kind === 'found' ? false : (this.#countVoid(name) ?? false);
  }

  #countLookup(term: string, path: string[]): Result | undefined {
    this.#lookups += 1;
    if (this.#lookups > maxLookups) {
      return permerror(`"${term}"${along(path)} is lookup ${this.#lookups}; RFC 7208 allows ${maxLookups}`);
    }
    if (this.#witness.now() - this.#startedAt <= maxElapsedMs) return undefined;
    return temperror(path.at(-1)!, `no end after ${maxElapsedMs / 1_000} s`);
  }

  #countVoid(name: string): Result | undefined {
    this.#voidLookups += 1;
    if (this.#voidLookups <= maxVoidLookups) return undefined;
    return permerror(`${this.#voidLookups} lookups came back empty, the last at ${name}; RFC 7208 allows 2`);
  }
}

/** Of the record that is followed. */
type Place = { path: string[]; reach: SpfReach; counts: boolean };

function reaches({ kind, text, prefix }: Mechanism, family: Family, path: string[]): string {
  if (kind === 'all' || (kind !== 'include' && prefix[family] === 0)) return `has "${text}"${along(path)}`;
  return `reaches, with "${text}"${along(path)}, half of all IPv${family} addresses`;
}

function outcome(qualifier: Qualifier, because: string): Result {
  return qualifier === '+' ? { kind: 'pass', because } : { kind: byQualifier[qualifier] };
}

function permerror(because: string): Result {
  return { kind: 'permerror', because };
}

function temperror(name: string, reason: string): Result {
  return { kind: 'temperror', because: `DNS did not answer for ${name}: ${reason}` };
}

/** Empty at the member's own record. */
function along(path: string[]): string {
  return path.length === 1 ? '' : ` at ${path.at(-1)} (by way of ${path.join(' → ')})`;
}
