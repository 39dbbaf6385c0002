/**
 * The five checks of a sending domain, each with its evidence.
 *
 * Promise: `failed` only when an answer says so. A server that does not answer leaves a check
 * `undecided`, and one undecided check, with none failed, leaves the domain undecided.
 * What a record must say is judgements.ts's business; what follows from a verdict is labeler.ts's.
 */
import type { Resolver } from '../resolver.ts';
import { type ControlSources, checkControl } from './domain-control.ts';
import { type Finding, judged, overall, type Verdict } from './finding.ts';
import { judgeDkim, judgeDmarc, judgeMx, judgeSpf } from './judgements.ts';
import { type Observation, Witness } from './witness.ts';

export type CheckName = 'control' | 'mx' | 'spf' | 'dkim' | 'dmarc';

export type CheckResult = {
  check: CheckName;
  verdict: Verdict;
  /** One sentence for the member. */
  reason: string;
  observations: Observation[];
};

/** What is claimed: this DID sends mail as this domain, signed with these selectors. */
export type Subject = {
  did: string;
  /** A-labels, lower case. */
  domain: string;
  selectors: readonly string[];
};

/** The labeler's view of this file. */
export type CheckDomain = (subject: Subject) => Promise<CheckResult[]>;

/** @returns all five, always; rejects only for a bug */
export function domainChecks(o: {
  resolver: Resolver;
  control: ControlSources;
  now: () => number;
}): CheckDomain {
  return async (subject) => {
    const { domain, selectors } = subject;
    const run = async (check: CheckName, look: (witness: Witness) => Promise<Finding>) => {
      const witness = new Witness(o.resolver, o.now);
      const finding = await look(witness);
      return { check, ...finding, observations: witness.observations };
    };
    return Promise.all([
      run('control', (witness) => checkControl(subject, witness, o.control)),
      run('mx', async (witness) => judged(await witness.mx(domain), judgeMx)),
      run('spf', async (witness) => judged(await witness.txt(domain), judgeSpf)),
      run('dkim', (witness) => checkSelectors(domain, selectors, witness)),
      run('dmarc', async (witness) => judged(await witness.txt(`_dmarc.${domain}`), judgeDmarc)),
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
  return { verdict, reason: telling.map((finding) => finding.reason).join('; ') };
}
