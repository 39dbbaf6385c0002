/**
 * The five checks of a sending domain, each with its evidence.
 *
 * Promise: `failed` only when an answer says so. A server that does not answer leaves a check
 * `undecided`, and one undecided check, with none failed, leaves the domain undecided.
 * What a record must say is the business of judgements.ts, spf.ts, dkim-record.ts and dmarc.ts; what follows
 * from a verdict is labeler.ts's.
 */
import type { Resolver } from '../resolver.ts';
import { judgeDkim } from './dkim-record.ts';
import { checkDmarc } from './dmarc.ts';
import { askingAnew } from './dns-memory.ts';
import { type ControlSources, checkControl } from './domain-control.ts';
import { type Finding, judged, overall } from './finding.ts';
import { judgeMx } from './judgements.ts';
import { checkSpf } from './spf.ts';
import { type Observation, Witness } from './witness.ts';

export type CheckName = 'control' | 'mx' | 'spf' | 'dkim' | 'dmarc';

export type CheckResult = Finding & { check: CheckName; observations: Observation[] };

/** What is claimed: this DID sends mail as this domain, signed with these selectors. */
export type Subject = {
  did: string;
  /** A-labels, lower case. */
  domain: string;
  selectors: readonly string[];
};

/** The labeler's view of this file. */
export type CheckDomain = (subject: Subject) => Promise<CheckResult[]>;

export type CheckOptions = {
  resolver: Resolver;
  /** Asked for what is not the domain's own; the resolver itself where left out. */
  memory?: Resolver;
  control: ControlSources;
  now: () => number;
};

/** @returns all five, always; rejects only for a bug */
export function domainChecks({ resolver, memory = resolver, control, now }: CheckOptions): CheckDomain {
  return async (subject) => {
    const { domain, selectors } = subject;
    const asking = askingAnew(domain, resolver, memory);
    const run = async (check: CheckName, look: (witness: Witness) => Promise<Finding>) => {
      const witness = new Witness(asking, now);
      const finding = await look(witness);
      return { check, ...finding, observations: witness.observations };
    };
    return Promise.all([
      run('control', (witness) => checkControl(subject, witness, control)),
      run('mx', async (witness) => judged(await witness.mx(domain), judgeMx)),
      run('spf', (witness) => checkSpf(domain, witness)),
      run('dkim', (witness) => checkSelectors(domain, selectors, witness)),
      run('dmarc', (witness) => checkDmarc(domain, witness)),
    ]);
  };
}

/** Every declared selector: a receiver may meet any of them. */
async function checkSelectors(
  domain: string,
  selectors: readonly string[],
  witness: Witness,
): Promise<Finding> {
  const findings = await Promise.all(
    selectors.map(async (selector) =>
      judged(await witness.txt(`${selector}._domainkey.${domain}`), (texts: string[]) =>
        judgeDkim(texts, selector),
      ),
    ),
  );
  const verdict = overall(findings);
  const telling = findings.filter((finding) => finding.verdict === verdict);
  const notes = findings.flatMap((finding) => finding.notes ?? []);
  return {
    verdict,
    reason: telling.map((finding) => finding.reason).join('; '),
    ...(notes.length > 0 && { notes }),
    seen: Object.assign({}, ...findings.map(({ seen }) => seen)),
  };
}
