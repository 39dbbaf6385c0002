/** `atmos member …` for what a member may do now, what its mail is, and for its suppression list. */
import { type Command, Option } from 'commander';
import { suspensionReasons } from '../../appview/labels/signal.ts';
import type { StandingState } from '../enforcement/standing.ts';
import { type Common, callRunning, common, milliseconds, print, whoActs } from './options.ts';

export function addStandingCommands(member: Command): void {
  addStanding(member, 'suspend', 'suspended', 'take no mail of a member; what waits is held');
  addStanding(member, 'hold', 'held', 'hold the mail of a member until somebody has looked at it');
  addStanding(member, 'throttle', 'throttled', 'lower the caps of a member');
  addStanding(member, 'reinstate', 'active', 'end a measure; what was held for it goes on');
  addKind(member);
  addSuppressions(member);
  addContact(member);
}

function addStanding(member: Command, word: string, state: StandingState, description: string): void {
  const command = common(member.command(word))
    .description(description)
    .argument('<did>')
    .requiredOption('--reason <text>', 'why; the member reads it');
  if (state !== 'active')
    command.option('--for <time>', 'ends by itself after 12h, 3d; else a person ends it');
  if (state !== 'active')
    command.addOption(
      new Option('--code <code>', 'why, in a word that peers are told').choices(suspensionReasons),
    );
  command.action(async (did: string, options: Common & { reason: string; for?: string; code?: string }) => {
    const until = options.for === undefined ? undefined : Date.now() + milliseconds('--for', options.for);
    const { reason, code } = options;
    const body = { did, state, reason, actor: whoActs(), ...(until && { until }), ...(code && { code }) };
    const answer = await callRunning(options, 'POST', '/members/standing', body);
    options.json ? print(answer) : console.log(`${did} is ${state}.`);
  });
}

function addKind(member: Command): void {
  common(member.command('tier'))
    .description('the caps of a member, by a tier of the configuration')
    .argument('<did>')
    .argument('<tier>', 'such as trusted')
    .action(async (did: string, tier: string, options: Common) => {
      const answer = await callRunning(options, 'POST', '/members/tier', { did, tier, actor: whoActs() });
      options.json ? print(answer) : console.log(`${did} has the tier ${tier}.`);
    });

  common(member.command('category'))
    .description('what the mail of a domain is where neither the message nor its key says')
    .argument('<domain>')
    .argument('<category>', 'such as transactional for a PDS')
    .action(async (domain: string, category: string, options: Common) => {
      const body = { domain, category, actor: whoActs() };
      const answer = await callRunning(options, 'POST', '/members/category', body);
      options.json ? print(answer) : console.log(`Mail of ${domain} is ${category}.`);
    });
}

function addSuppressions(member: Command): void {
  common(member.command('suppressions'))
    .description('whom a member no longer reaches, and why')
    .argument('<did>')
    .option('--cursor <address>', 'go on behind the page before')
    .action(async (did: string, options: Common & { cursor?: string }) => {
      const { listSuppressions } = await import('./member.ts');
      const { suppressions, cursor } = await listSuppressions(options.config, did, options.cursor);
      if (options.json) return print({ suppressions, cursor });
      for (const { address, reason, createdAt, evidence } of suppressions)
        console.log([address, reason, new Date(createdAt).toISOString(), evidence].join('\t'));
      if (cursor) console.log(`More: --cursor ${cursor}`);
    });

  common(member.command('unsuppress'))
    .description('take an address off the suppression list of a member')
    .argument('<did>')
    .argument('<address>')
    .requiredOption('--reason <text>', 'why, for the record: the recipient may have asked for no more mail')
    .action(async (did: string, address: string, options: Common & { reason: string }) => {
      const body = { did, address, reason: options.reason, actor: whoActs() };
      const answer = await callRunning(options, 'POST', '/members/unsuppress', body);
      options.json ? print(answer) : console.log(`${address} is off the list of ${did}.`);
    });
}

function addContact(member: Command): void {
  common(member.command('contact'))
    .description('where notices to a member go, once the owner of the address has confirmed it')
    .argument('<did>')
    .argument('<address>')
    .action(async (did: string, address: string, options: Common) => {
      const answer = await callRunning(options, 'POST', '/members/contact', { did, address });
      options.json ? print(answer) : console.log(`A link was mailed to ${address}.`);
    });
}
