/** The words and options of `atmos did …`; the work is did.ts's. */
import type { Command } from 'commander';
import { Asking } from './ask.ts';
import type { PlcDone } from './did.ts';
import type { DocumentCheck } from './label-key.ts';
import { type Common, common, print } from './options.ts';

export function addDidCommands(program: Command): void {
  const did = program.command('did').description("the cooperative's DID and its document");
  common(did.command('show', { isDefault: true }))
    .description('what the document must contain, and whether the world sees it so')
    .action(async (options: Common) => {
      const { shownLabelKeys } = await import('./label-key.ts');
      const { did, labelKey, document } = await shownLabelKeys(options.config);
      if (options.json) return print({ did, labelKey, document });
      console.log(`DID        ${did}`);
      for (const line of documentText(document)) console.log(line);
    });

  common(did.command('plc'))
    .description('make a did:plc account the cooperative: its document gets our label key and our labeler')
    .requiredOption('--pds <url>', "the account's PDS, such as https://pds.example")
    .requiredOption('--account <handle>', 'its handle or DID')
    .option('--no-records', 'keep no app password: the node then writes nothing into its repo')
    .addHelpText('after', '\nThe password, and the token that the PDS mails, are read from standard input.')
    .action(async (options: Common & { pds: string; account: string; records: boolean }) => {
      const { setUpPlc } = await import('./did.ts');
      const asking = new Asking();
      try {
        const secret = (what: string) => asking.secret(questions[what as keyof typeof questions]);
        const pds = new URL(options.pds).origin;
        const done = await setUpPlc(options.config, { ...options, pds, secret });
        options.json ? print(done) : console.log(doneText(done));
      } finally {
        asking.close();
      }
    });
}

const questions = {
  password: 'Password of the account (its own: an app password may not do this)',
  'sign-in code': 'The sign-in code that was mailed',
  token: 'The token that the PDS has just mailed to the owner of the account',
};

/** For `atmos did` and `atmos keys`. */
export function documentText({ must, state, faults }: DocumentCheck): string[] {
  const words = { right: 'is as it must be', wrong: 'is wrong', unread: 'could not be read' }[state];
  return [
    `Document   ${words}${faults.length > 0 ? `: ${faults.join('; ')}` : ''}`,
    `           it must contain ${JSON.stringify(must.verificationMethod)}`,
    `           and ${JSON.stringify(must.service)}`,
  ];
}

function doneText({ did, labelKey, changed, configured, rotated, records }: PlcDone): string {
  return [
    changed ? `The document of ${did} names the label key ${labelKey}.` : `${did} is a labeler already.`,
    ...(rotated ? ['The new label key signs from now on.'] : []),
    ...(records ? ['Its repo gets our declarations from the running node.'] : []),
    ...(configured ? ['It stands in the configuration now. Start the node again.'] : []),
  ].join('\n');
}
