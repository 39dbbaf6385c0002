/** The words and options of `atmos queue …`; the running node does the work (operator/queue-tools.ts). */
import type { Command } from 'commander';
import { historyOf } from '../operator/history.ts';
import type { ActName, QueueTools } from '../operator/queue-tools.ts';
import type { MessageStatus } from '../spool/message.ts';
import type { Selection } from '../spool/selection.ts';
import { type Common, callRunning, common, milliseconds, print, whoActs } from './options.ts';

type Filters = Common & {
  did?: string;
  key?: string;
  domain?: string;
  toDomain?: string;
  site?: string;
  state?: string[];
  olderThan?: string;
  heldBy?: string;
};

type Overview = Awaited<ReturnType<QueueTools['overview']>>;
type Listed = Awaited<ReturnType<QueueTools['list']>>;

export function addQueueCommands(program: Command): void {
  const queue = program.command('queue').description('mail that waits: look at it, hold it, move it on');
  addLooking(queue);
  addAct(queue, 'hold', 'keep it in the queue until it is released');
  addAct(queue, 'release', 'let what is held go on; mail of a member who may not send only with --held-by');
  addAct(queue, 'retry', 'try it now');
  addAct(queue, 'fail', 'give it up; the member gets a bounce');
  addAct(queue, 'drop', 'give it up without a bounce; it ends as cancelled');
  addReroute(queue);
  addFlush(queue);
}

function addLooking(queue: Command): void {
  common(queue.command('summary', { isDefault: true }))
    .description('how much waits, for which sites, and since when')
    .action(async (options: Common) => {
      const overview = (await callRunning(options, 'GET', '/queue')) as Overview;
      options.json ? print(overview) : printOverview(overview);
    });

  filtered(queue.command('list'))
    .description('the recipients that wait, oldest first')
    .option('--limit <n>', 'at most so many', '100')
    .option('--cursor <cursor>', 'go on behind the page before')
    .action(async (options: Filters & { limit: string; cursor?: string }) => {
      const query = { ...selectionOf([], options), limit: Number(options.limit), cursor: options.cursor };
      const listed = (await callRunning(options, 'POST', '/queue/list', query)) as Listed;
      options.json ? print(listed) : printListed(listed);
    });

  common(queue.command('show'))
    .description('one message with the timeline of each recipient')
    .argument('<id>', 'queue id')
    .action(async (id: string, options: Common) => {
      const path = `/queue/messages/${encodeURIComponent(id)}`;
      const message = (await callRunning(options, 'GET', path)) as MessageStatus;
      options.json ? print(message) : printMessage(message);
    });
}

function addAct(queue: Command, act: ActName, description: string): void {
  filtered(queue.command(act))
    .description(description)
    .argument('[ids...]', 'queue ids or recipient ids')
    .option('--reason <text>', 'why; the member reads it')
    .action((ids: string[], options: Filters & { reason?: string }) =>
      doAct(act, ids, options, { reason: options.reason }),
    );
}

function addReroute(queue: Command): void {
  filtered(queue.command('reroute'))
    .description('send it to another host than DNS names')
    .argument('[ids...]', 'queue ids or recipient ids')
    .requiredOption('--to <host>', 'host or host:port; `mx` for the way that DNS names')
    .action((ids: string[], options: Filters & { to: string }) =>
      doAct('reroute', ids, options, { to: options.to === 'mx' ? null : options.to }),
    );
}

function addFlush(queue: Command): void {
  common(queue.command('flush'))
    .description('try everything for a site now, and lift its suspension')
    .argument('<site>', 'as `atmos queue` shows it')
    .action(async (site: string, options: Common) => {
      report('retry', await callRunning(options, 'POST', '/queue/flush', { site, by: whoActs() }), options);
    });
}

async function doAct(
  act: ActName,
  ids: string[],
  options: Filters,
  more: { reason?: string; to?: string | null },
): Promise<void> {
  const body = { act, selection: selectionOf(ids, options), by: whoActs(), ...more };
  report(act, await callRunning(options, 'POST', '/queue/act', body), options);
}

/** @throws Error for an age that is none */
function selectionOf(ids: string[], options: Filters): Selection {
  return {
    ...(ids.length > 0 && { ids }),
    ...(options.did && { did: options.did }),
    ...(options.key && { keyId: options.key }),
    ...(options.domain && { domain: options.domain }),
    ...(options.toDomain && { recipientDomain: options.toDomain.toLowerCase() }),
    ...(options.site && { site: options.site }),
    ...(options.state && { states: options.state as Selection['states'] }),
    ...(options.heldBy && { heldBy: options.heldBy }),
    ...(options.olderThan && { before: Date.now() - milliseconds('--older-than', options.olderThan) }),
  };
}

function filtered(command: Command): Command {
  return common(command)
    .option('--did <did>', 'of this member')
    .option('--key <id>', 'sent with this API key')
    .option('--domain <domain>', 'from this domain')
    .option('--to-domain <domain>', 'to this domain')
    .option('--site <site>', 'to this MX site')
    .option('--state <state...>', 'in these states, such as deferred or held')
    .option('--held-by <name>', 'held by this person, or by `standing`')
    .option('--older-than <age>', 'accepted longer ago than 30m, 2h, 1d');
}

function report(act: string, answer: unknown, { json }: Common): void {
  if (json) {
    print(answer);
    return;
  }
  const { changed } = answer as { changed: number };
  console.log(`${act}: ${changed} ${changed === 1 ? 'recipient' : 'recipients'}`);
}

function printOverview({ queue, traffic }: Overview): void {
  if (queue.total === 0) {
    console.log('The queue is empty.');
    return;
  }
  const rows = queue.sites.map((site) => [
    site.site,
    ...(['accepted', 'deferred', 'held', 'scheduled'] as const).map((state) =>
      String(site.states[state] ?? ''),
    ),
    since(site.oldest),
    suspension(traffic, site.site),
  ]);
  printTable([['site', 'new', 'deferred', 'held', 'scheduled', 'oldest', ''], ...rows]);
  console.log(`${queue.total} recipients of ${queue.messages} messages, ${queue.bytes} octets`);
}

function suspension(traffic: Overview['traffic'], site: string): string {
  const [one] = traffic.filter((entry) => entry.site === site && entry.suspendedUntil);
  return one ? `suspended until ${time(one.suspendedUntil!)}: ${one.lastReply ?? ''}` : '';
}

function printListed({ entries, cursor }: Listed): void {
  const rows = entries.map((entry) => [
    entry.recipientId,
    entry.state,
    entry.address,
    entry.domain,
    entry.nextAt === null ? '' : time(entry.nextAt),
    entry.last ?? '',
  ]);
  printTable([['recipient', 'state', 'to', 'from', 'next try', 'last'], ...rows]);
  if (cursor) console.log(`More: --cursor ${cursor}`);
}

function printMessage(message: MessageStatus): void {
  console.log(`${message.queueId}  ${message.kind}  ${message.domain}  ${message.size} octets`);
  console.log(`accepted ${time(message.receivedAt)} by ${message.via}; until ${time(message.expiresAt)}`);
  for (const recipient of message.recipients) {
    const { address, state, nextAt } = recipient;
    console.log(`\n${address}  ${state}${nextAt === null ? '' : `, next try ${time(nextAt)}`}`);
    for (const { at, what, said } of historyOf(recipient))
      console.log(`  ${time(at)}  ${what}${said ? `: ${said.replace(/[\r\n]+/g, ' ')}` : ''}`);
  }
}

function printTable(rows: string[][]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows)
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    );
}

function since(at: number): string {
  const minutes = Math.max(0, Math.round((Date.now() - at) / 60_000));
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

function time(at: number): string {
  return new Date(at).toISOString().slice(0, 19).replace('T', ' ');
}
