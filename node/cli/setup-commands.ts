/** `atmos init` and `atmos start`. */
import { type Command, Option } from 'commander';
import { type Role, roles } from '../config-schema.ts';

type InitWords = {
  name: string;
  domain?: string;
  url: string;
  email?: string;
  roles?: Role[];
  did?: string;
  import?: string;
  config: string;
  json?: boolean;
};

export function addSetupCommands(program: Command): void {
  program
    .command('init')
    .description('write a first configuration and make the keys')
    .requiredOption('--name <name>', 'what people read, such as Harbor')
    .option('--domain <domain>', 'the pool domain, such as harbor.example')
    .requiredOption('--url <url>', 'where people reach the pages, such as https://harbor.example')
    .option('--email <address>', 'who is told when something stops by itself')
    .addOption(
      new Option('--roles <role...>', 'the parts that this machine runs; all when left out').choices(roles),
    )
    .option('--did <did>', 'a did:plc that is the cooperative already; then: atmos did plc')
    .option('--import <file>', 'the configuration of the labeler before this one: its label key stays')
    .option('--config <file>', 'where to write it', 'atmos.jsonc')
    .option('--json', 'print data in place of text')
    .action(async ({ import: importFile, config: file, json, ...options }: InitWords) => {
      const { init } = await import('./init.ts');
      const made = await init({ ...options, file, ...(importFile !== undefined && { importFile }) });
      if (json) return console.log(JSON.stringify(made));
      console.log(`Wrote ${made.file} and the keys of ${made.did}.`);
      console.log(`Label key: ${made.labelKey}`);
      for (const { key, why } of made.left) console.log(`Left out "${key}": ${why}`);
      console.log(`Next: look at the file, then: npx atmos start --config ${made.file}`);
      console.log('In a folder with an atmos.jsonc, npm start runs that node and not the sandbox.');
    });

  program
    .command('start')
    .description('run the node until it is told to stop')
    .option('--config <file>', 'the configuration', 'atmos.jsonc')
    .action(async (options: { config: string }) => {
      const { start } = await import('./start.ts');
      await start(options.config);
    });
}
