/**
 * May just anyone send as this domain? SPF asked as a receiver asks it (RFC 7208), for a sender that is on
 * nobody's list.
 *
 * Promise: what the whole record tree says is followed in its order: `include:` and `redirect=`, at most ten
 * lookups and two empty ones (§4.6.4), 20 seconds. `passed` is a record that works and lets not everyone send;
 * `failed` names the way to the term that does, or what makes receivers give up; one answer that does not come
 * leaves all undecided. Networks of addresses are taken for other people's, unless they hold every address.
 */
import { type Finding, failed, passed, recordsOf, undecided } from './finding.ts';
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
  return { ...walk.judge(await walk.follow(records[0]!, [domain])), seen };
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

  /** @param path the domains from the member's to that of this record */
  async follow(text: string, path: string[]): Promise<Result> {
    const record = parseSpf(text);
    if (typeof record === 'string') return permerror(`${record} (at ${path.at(-1)})`);
    for (const mechanism of record.mechanisms) {
      const match = await this.#match(mechanism, path);
      if (typeof match !== 'boolean') return match;
      if (match) return outcome(mechanism.qualifier, `has "${mechanism.text}"${along(path)}`);
    }
    return this.#redirect(record, path);
  }

  /** @returns whether it matches the stranger, or the result that ends it all */
  async #match(mechanism: Mechanism, path: string[]): Promise<boolean | Result> {
    const { kind, isEveryAddress, target } = mechanism;
    if (kind === 'all') return true;
    if (kind === 'ip4' || kind === 'ip6') return isEveryAddress;
    const stop = this.#countLookup(mechanism.text, path);
    if (stop) return stop;
    if (kind === 'ptr') {
      this.#notes.add('"ptr" is slow and should not be used (RFC 7208 §5.5)');
      return false;
    }
    const name = expand(target ?? '%{d}', path.at(-1)!, this.#sender);
    if (kind === 'include') return this.#include(mechanism, name, path);
    if (kind === 'mx') return this.#mx(mechanism, name);
    const exists = await this.#hasAddress(name, kind === 'exists' && dependsOnMessage(target!));
    return typeof exists === 'boolean' ? exists && (kind === 'exists' || isEveryAddress) : exists;
  }

  /** RFC 7208 §5.2: only a pass matches, and a domain without a record breaks the one that includes it. */
  async #include({ text, qualifier }: Mechanism, name: string, path: string[]): Promise<boolean | Result> {
    const result = await this.#ask(name, text, path);
    if (result.kind === 'pass') return qualifier === '+' ? result : true;
    if (result.kind === 'none') return permerror(result.because);
    return result.kind === 'permerror' || result.kind === 'temperror' ? result : false;
  }

  /** RFC 7208 §6.1: where nothing matched, so no "all" stands in the record. */
  async #redirect({ redirect }: SpfRecord, path: string[]): Promise<Result> {
    if (redirect === undefined) return { kind: 'neutral' };
    const text = `redirect=${redirect}`;
    const stop = this.#countLookup(text, path);
    if (stop) return stop;
    const result = await this.#ask(expand(redirect, path.at(-1)!, this.#sender), text, path);
    return result.kind === 'none' ? permerror(result.because) : result;
  }

  async #ask(name: string, term: string, path: string[]): Promise<Result> {
    if (path.includes(name)) return permerror(`"${term}"${along(path)} leads back to ${name}`);
    const answer = await this.#witness.txt(name);
    if (answer.kind === 'failed') return temperror(name, answer.reason);
    const records = recordsOf(answer).filter(isSpf);
    if (records.length === 0)
      return { kind: 'none', because: `"${term}" names ${name}, which has no SPF record` };
    if (records.length > 1) return permerror(`${records.length} SPF records at ${name}; RFC 7208 allows one`);
    return this.follow(records[0]!, [...path, name]);
  }

  async #mx({ text, isEveryAddress }: Mechanism, name: string): Promise<boolean | Result> {
    const answer = await this.#witness.mx(name);
    if (answer.kind === 'failed') return temperror(name, answer.reason);
    const hosts = recordsOf(answer);
    if (hosts.length > maxMxHosts)
      return permerror(`"${text}" leads to ${hosts.length} hosts; RFC 7208 allows 10`);
    if (hosts.length === 0) return this.#countVoid(name) ?? false;
    return isEveryAddress;
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
