/**
 * What the simplest records of a sending domain must say: records in, verdict out. SPF, DKIM and DMARC have
 * files of their own.
 *
 * They see only what was found; who was asked, and what a failing server means, is checks.ts's business.
 * Each refusal says what was observed and what is expected, for the member to read.
 */
import type { MxRecord } from '../resolver.ts';
import { type Finding, failed, passed } from './finding.ts';
import { mxText } from './witness.ts';

/**
 * `_atproto.<domain>` names exactly one DID, the member's.
 *
 * Two records that name different DIDs prove nothing for either (https://atproto.com/specs/handle).
 */
export function judgeControlRecord(texts: string[], did: string): Finding {
  const named = namedDids(texts);
  if (named.size === 0) return failed(`no TXT record with did=${did}`);
  if (named.size > 1) return failed('TXT records name several DIDs; leave one');
  return named.has(did) ? passed('the TXT record names the DID') : failed(`the TXT record names another DID`);
}

/** What `did=` records name. */
export function namedDids(texts: string[]): Set<string> {
  return new Set(texts.filter((text) => text.startsWith('did=')).map((text) => text.slice(4).trim()));
}

/** At least one server takes mail: replies and bounces have somewhere to go. */
export function judgeMx(records: MxRecord[]): Finding {
  const seen = { MX: records.map(mxText).sort().join(', ') };
  // RFC 7505: an MX of "." says that the domain takes no mail at all.
  const servers = records.filter((record) => record.exchange !== '');
  if (servers.length > 0) return { ...passed(`${servers.length} MX`), seen };
  const reason = records.length === 0 ? 'no MX record' : 'the null MX says that the domain takes no mail';
  return { ...failed(reason), seen };
}
