/** `atmos member …` for what a member may do now, and for its suppression list. */
import type { Command } from 'commander';
import type { StandingState } from '../enforcement/standing.ts';
import { type Common, callRunning, common, milliseconds, print, whoActs } from './options.ts';

export function addStandingCommands(member: Command): void {
  addStanding(member, 'suspend', 'suspended', 'take no mail of a member; what waits is held');
  addStanding(member, 'hold', 'held', 'hold the mail of a member until somebody has looked at it');
  addStanding(member, 'throttle', 'throttled', 'lower the caps of a member');
  addStanding(member, 'reinstate', 'active', 'end a measure; what was held for it goes on');
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
  command.action(async (did: string, options: Common & { reason: string; for?: string }) => {
    const until = options.for === undefined ? undefined : Date.now() + milliseconds('--for', options.for);
    const body = { did, state, reason: options.reason, actor: whoActs(), ...(until && { until }) };
    const answer = await callRunning(options, 'POST', '/members/standing', body);
    options.json ? print(answer) : console.log(`${did} is ${state}.`);
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
    .action(async (did: string, address: string, options: Common) => {
      const { removeSuppression } = await import('./member.ts');
      if (!(await removeSuppression(options.config, did, address)))
        throw new Error(`${address} is not on the list of ${did}`);
      if (options.json) print({ did, address, removed: true });
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
