/** The words and options of `atmos lexicon …`; the work is lexicon.ts's. */
import type { Command } from 'commander';
import type { LexiconTxt } from '../cooperative/lexicon-records.ts';
import { Asking } from './ask.ts';
import type { Published } from './lexicon.ts';
import { type Common, common, print } from './options.ts';

type Options = Common & { pds?: string; account?: string };

export function addLexiconCommands(program: Command): void {
  const lexicon = program
    .command('lexicon')
    .description('the schemas of email.atmos.*, for the whole network');
  common(lexicon.command('publish'))
    .description('write them into a repo, and look up the DNS records that lead there')
    .option('--pds <url>', "the PDS of another account than the cooperative's own did:plc")
    .option('--account <handle>', 'its handle or DID; its password is read from standard input')
    .action(async (options: Options) => {
      const { publishLexicons } = await import('./lexicon.ts');
      const asking = new Asking();
      try {
        const published = await publishLexicons(options.config, givenRepo(options, asking));
        options.json ? print(published) : console.log(publishedText(published));
        if (published.dns.some(({ isRight }) => !isRight)) process.exitCode = 1;
      } finally {
        asking.close();
      }
    });
}

function givenRepo({ pds, account }: Options, asking: Asking) {
  if (pds === undefined && account === undefined) return undefined;
  if (pds === undefined || account === undefined) throw new Error('--pds and --account go together');
  const password = () => asking.secret('Password of the account (an app password will do)');
  return { pds: new URL(pds).origin, account, password };
}

function publishedText({ did, written, lexicons, dns }: Published): string {
  const wrong = dns.filter(({ isRight }) => !isRight);
  return [
    `${lexicons.length} lexicons stand in the repo of ${did}; ${written.length} were written now.`,
    ...(wrong.length === 0 ? [`DNS leads there: ${dns.length} TXT records are right.`] : []),
    ...(wrong.length > 0 ? ['DNS records to publish, so that others find them:'] : []),
    ...wrong.map(txtText),
  ].join('\n');
}

function txtText({ name, value, found }: LexiconTxt): string {
  const now =
    found === undefined ? '(DNS does not answer)' : found.length > 0 ? `(now: ${found.join(', ')})` : '';
  return `  TXT\t${name}\t${value}${now && `\t${now}`}`;
}
