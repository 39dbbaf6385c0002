/** `atmos member …`: what peers say of a member, what is said in public, and moving home. The work is reputation.ts's. */
import { createInterface } from 'node:readline/promises';
import { type Command, Option } from 'commander';
import { suspensionReasons } from '../../appview/labels/signal.ts';
import { type Common, callRunning, common, milliseconds, print, whoActs } from './options.ts';

export function addReputationCommands(member: Command): void {
  addShow(member);
  addPublication(member);
  addExport(member);
}

function addShow(member: Command): void {
  common(member.command('show'))
    .description('a member, its standing, and what peers say of it in private')
    .argument('<did>')
    .action(async (did: string, options: Common) => {
      const { showMember, memberText } = await import('./reputation.ts');
      const shown = await showMember(options.config, did);
      options.json ? print(shown) : console.log(memberText(shown));
    });
}

type Publication = Common & { domain: string; reason: string; for: string; yes?: boolean };

/** Governance is to decide this; until there is one, the command is the operator's own act. */
function addPublication(member: Command): void {
  common(member.command('publish-suspension'))
    .description('say in public that a member is suspended: a label for everyone, until the end of the term')
    .argument('<did>', 'of a member that is suspended')
    .requiredOption('--domain <domain>')
    .addOption(
      new Option('--reason <code>', 'why, for everyone to read')
        .choices(suspensionReasons)
        .makeOptionMandatory(),
    )
    .requiredOption('--for <time>', 'the term, such as 30d')
    .option('--yes', 'without asking')
    .action(async (did: string, options: Publication) => {
      const until = Date.now() + milliseconds('--for', options.for);
      const { domain, reason } = options;
      const end = new Date(until).toISOString();
      await agree(
        options,
        `Everyone will read that ${domain} of ${did} is suspended for ${reason} until ${end}. Publish?`,
      );
      const body = { did, domain, reason, until, by: whoActs() };
      const answer = await callRunning(options, 'POST', '/members/publish-suspension', body);
      options.json ? print(answer) : console.log(`Published: suspended-${reason}, until ${end}.`);
    });

  common(member.command('withdraw-suspension'))
    .description('take back what publish-suspension said; the member stays suspended')
    .argument('<did>')
    .action(async (did: string, options: Common) => {
      const answer = await callRunning(options, 'POST', '/members/withdraw-suspension', {
        did,
        by: whoActs(),
      });
      options.json ? print(answer) : console.log(`No suspension of ${did} is public any more.`);
    });
}

function addExport(member: Command): void {
  common(member.command('export'))
    .description('a member with its DKIM keys in one file under a passphrase, to enrol elsewhere')
    .argument('<did>')
    .requiredOption('--out <file>', 'must not exist yet')
    .action(async (did: string, options: Common & { out: string }) => {
      const { exportMember, readPassphrase } = await import('./moving-home.ts');
      const passphrase = await readPassphrase('A passphrase for the file');
      const domains = await exportMember(options.config, did, options.out, passphrase);
      if (options.json) return print({ did, domains, file: options.out });
      console.log(`${options.out} has ${did} with the keys of ${domains.join(', ')}.`);
      console.log(`There: atmos member enrol --import ${options.out}`);
    });
}

async function agree({ yes, json }: { yes?: boolean; json?: boolean }, question: string): Promise<void> {
  if (yes) return;
  if (json || !process.stdin.isTTY)
    throw new Error('nobody is there to say yes. Add --yes when you are sure.');
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await lines.question(`${question} [y/N] `);
  lines.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new Error('nothing was changed.');
}
