/**
 * The command line: names, options, exit codes. Each command's work is a function of its own file,
 * loaded when it is called, so that `atmos --help` does not load a mail server.
 *
 * Exit codes: 0 done, 1 done with a warning, 2 failed, 64 the words of the call are wrong.
 */
import { Command, CommanderError } from 'commander';
import { ConfigError } from '../config.ts';
import { addDidCommands } from './did-commands.ts';
import { addDkimCommands } from './dkim-commands.ts';
import { addDnsCommands } from './dns-commands.ts';
import { addKeysCommand } from './keys-commands.ts';
import { addLexiconCommands } from './lexicon-commands.ts';
import { addMemberCommands } from './member-commands.ts';
import { addOperatorCommands } from './operator-commands.ts';
import { addPeerCommands } from './peer-commands.ts';
import { addQueueCommands } from './queue-commands.ts';
import { addSetupCommands } from './setup-commands.ts';

export async function run(argv: string[]): Promise<number> {
  const program = new Command('atmos')
    .description('Atmosphere Mail: one node of a mail cooperative on atproto')
    .version('0.1.0')
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError('(see atmos --help)');
  addSetupCommands(program);
  addMemberCommands(program);
  addPeerCommands(program);
  addQueueCommands(program);
  addOperatorCommands(program);
  addDkimCommands(program);
  addKeysCommand(program);
  addDidCommands(program);
  addLexiconCommands(program);
  addDnsCommands(program);
  try {
    await program.parseAsync(argv);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return report(error);
  }
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 64;
  if (error instanceof ConfigError) {
    console.error(error.message);
    return 2;
  }
  console.error(`atmos: ${(error as Error).message}`);
  if (process.env.ATMOS_DEBUG) console.error(error);
  return 2;
}
