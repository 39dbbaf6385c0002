/** What `atmos member show` does: beside the node, whether it runs or not. */
import { readConfig } from '../config.ts';
import { PeerBook } from '../cooperative/peer-book.ts';
import { peerSignalText } from '../enforcement/peer-signal.ts';
import { type Standing, standings } from '../enforcement/standing.ts';
import { signalsOn } from '../enrolment.ts';
import type { Member } from '../members/members.ts';
import type { Finding } from '../reputation/findings.ts';
import { openMembership } from '../state.ts';

export type ShownMember = Member & { standing: Standing; signals: Finding[] };

/** @throws ConfigError; RangeError when not enrolled */
export async function showMember(configFile: string, did: string): Promise<ShownMember> {
  const config = readConfig(configFile);
  const { db, members } = await openMembership(config, Date.now);
  try {
    const member = members.get(did);
    if (!member) throw new RangeError(`${did} is not enrolled`);
    const book = new PeerBook({ db, configured: config.peers, now: Date.now });
    const domains = member.domains.map(({ name }) => name);
    const standing = standings({ db, policy: config.caps, now: Date.now })(did);
    return { ...member, standing, signals: signalsOn(config, book, Date.now, did, domains) };
  } finally {
    db.close();
  }
}

export function memberText({ did, handle, domains, standing, signals }: ShownMember): string {
  const { state, reason, until, by, tier } = standing;
  const end = until === null ? '' : `, until ${new Date(until).toISOString()}`;
  return [
    `${did}${handle ? ` (${handle})` : ''}`,
    `Domains: ${domains.map(({ name }) => name).join(', ') || 'none'}`,
    `Standing: ${state}, tier ${tier}${reason ? `: ${reason}` : ''}${state === 'active' ? '' : ` (${by}${end})`}`,
    ...(signals.length > 0
      ? ['What peers say, in private:', ...signals.map((one) => `  ${peerSignalText(one)}`)]
      : []),
  ].join('\n');
}
