/**
 * What `npm start` shows: at most a screen of 24 lines.
 */
import { dirname, relative } from 'node:path';
import type { Step } from './story.ts';
import type { CooperativeWorld, World } from './world.ts';

const stepWidth = 88;

export const title = 'Atmosphere Mail sandbox: two cooperatives on this machine; nothing leaves it.\n';

/** One line a step, with its measured time at the end. */
export function stepLine({ text, ms }: Step): string {
  return `  ${text.padEnd(stepWidth)} ${String(ms).padStart(6)} ms`;
}

/** Addresses, and what to try: each command works as it stands here. */
export function guide(world: World, worldFile: string): string {
  const [harbor, meadow] = world.cooperatives as [CooperativeWorld, CooperativeWorld];
  const member = world.members[0]!;
  const file = relative(process.cwd(), worldFile);
  return `
${cooperativeLine(harbor)}
${cooperativeLine(meadow)}
  Inbox   ${world.inbox.web}   DNS ${world.resolver.host}:${world.resolver.port}   PDS ${world.pds}   PLC ${world.plc}
  World   ${file} (DIDs, passwords, API keys)   logs ${dirname(file)}/*/node.log

Try:
  swaks -s ${harbor.submission.host}:${harbor.submission.port} -tls -a PLAIN -au ${member.handle} -ap ${member.apiKey} -f me@${member.domain} -t you@inbox.test
  dig @${meadow.dns.host} -p ${meadow.dns.port} ${member.domain}.dom.${meadow.dns.apex}
  curl '${harbor.labeler}/xrpc/com.atproto.label.queryLabels?uriPatterns=*'
  npm start -- --join   in another terminal: a third cooperative, which Harbor and Meadow may make a peer
  and look at ${world.inbox.web} and ${meadow.web}/listing/${member.domain}
`;
}

function cooperativeLine({ name, web, submission, submissions, inbound, dns }: CooperativeWorld): string {
  const title = name.charAt(0).toUpperCase() + name.slice(1);
  return `  ${title}  ${web}   submission ${submission.port}, TLS ${submissions.port}   inbound ${inbound.port}   DNS ${dns.port} ${dns.apex}`;
}
