/**
 * What receivers are told to do with mail that fails: RFC 7489, at the domain and at its organisation.
 *
 * The domain's own record counts; where it has none, that of the organisational domain (public suffix list)
 * with `sp=`, else `p=` (§6.6.3). `quarantine` or `reject` is expected.
 */
import { getDomain } from 'tldts';
import { type Finding, failed, judged, passed, recordsOf } from './finding.ts';
import type { Witness } from './witness.ts';

type Policy = 'none' | 'quarantine' | 'reject';

export async function checkDmarc(domain: string, witness: Witness): Promise<Finding> {
  const own = await witness.txt(`_dmarc.${domain}`);
  if (own.kind === 'failed' || recordsOf(own).some(isDmarc)) {
    return judged(own, (texts) => judgeDmarc(texts, 'own'));
  }
  const organisation = organisationalDomain(domain);
  if (organisation === domain) return judgeDmarc([], 'own');
  return judged(await witness.txt(`_dmarc.${organisation}`), (texts) => judgeDmarc(texts, organisation));
}

/** The name below its public suffix; a public suffix itself, and what is not in the list's shape, as it is. */
export function organisationalDomain(domain: string): string {
  // Hosts of strangers' names (github.io and the like) are public suffixes too: they vouch for nobody below.
  return getDomain(domain, { allowPrivateDomains: true, extractHostname: false }) ?? domain;
}

/** @param from whose record this is: the domain's own, or the organisation that speaks for it */
export function judgeDmarc(texts: string[], from: 'own' | (string & {})): Finding {
  const records = texts.filter(isDmarc);
  const where = from === 'own' ? '' : ` at ${from}`;
  const seen = { DMARC: records.sort().join(' | ') };
  if (records.length === 0) return { ...failed('no DMARC record (v=DMARC1)'), seen };
  // RFC 7489 §6.6.3, 5: with more than one, none is applied.
  if (records.length > 1) return { ...failed(`${records.length} DMARC records${where}; leave one`), seen };
  return { ...judgeRecord(tagsOf(records[0]!), from, where), seen };
}

function judgeRecord(tags: Map<string, string>, from: string, where: string): Finding {
  const [p, sp] = [policyOf(tags, 'p'), policyOf(tags, 'sp')];
  // RFC 7489 §6.6.3, 6: a policy that nobody knows is `none` for who asks for reports, else no record at all.
  const unknown = (['p', 'sp'] as const).find((tag) => tags.has(tag) && !policyOf(tags, tag));
  if (p === undefined || unknown) {
    const named = unknown ? `${unknown}=${tags.get(unknown)!.slice(0, 40)}` : 'p=(none)';
    const effect = tags.has('rua') ? 'counts as p=none' : 'is no policy';
    return failed(`DMARC ${named}${where} ${effect}; quarantine or reject is expected`);
  }
  const [tag, policy] = from !== 'own' && sp !== undefined ? ['sp', sp] : ['p', p];
  if (policy === 'none') return failed(`DMARC ${tag}=none${where}; quarantine or reject is expected`);
  const percent = percentOf(tags);
  if (percent === 0 && policy === 'quarantine') {
    return failed(`DMARC ${tag}=quarantine${where} with pct=0 applies to no message`);
  }
  return passed(`DMARC ${tag}=${policy}${where}`, notesOn(tags, percent));
}

function notesOn(tags: Map<string, string>, percent: number): string[] {
  return [
    ...(percent < 100 ? [`DMARC pct=${percent}: only a part of the mail is held to it`] : []),
    ...(tags.get('t')?.toLowerCase() === 'y' ? ['DMARC t=y: receivers take it for a test'] : []),
  ];
}

/** RFC 7489 §6.3: the version stands first, its value in this case. */
function isDmarc(text: string): boolean {
  return /^[vV]\s*=\s*DMARC1\s*(?:;|$)/.test(text);
}

function policyOf(tags: Map<string, string>, tag: 'p' | 'sp'): Policy | undefined {
  const value = tags.get(tag)?.toLowerCase();
  return value === 'none' || value === 'quarantine' || value === 'reject' ? value : undefined;
}

/** What is not a percentage is as if it were not there. */
function percentOf(tags: Map<string, string>): number {
  const text = tags.get('pct') ?? '';
  return /^\d{1,3}$/.test(text) ? Math.min(Number(text), 100) : 100;
}

/** RFC 7489 §6.3: what is not well written is ignored, and the rest counts. Of two the first. */
function tagsOf(text: string): Map<string, string> {
  const tags = new Map<string, string>();
  for (const part of text.split(';')) {
    const at = part.indexOf('=');
    const name = part.slice(0, Math.max(at, 0)).trim().toLowerCase();
    if (/^[a-z]+$/.test(name) && !tags.has(name)) tags.set(name, part.slice(at + 1).trim());
  }
  return tags;
}
