/** `atmos init` and `atmos start`. */
import type { Command } from 'commander';

export function addSetupCommands(program: Command): void {
  program
    .command('init')
    .description('write a first configuration and make the keys')
    .requiredOption('--name <name>', 'what people read, such as Harbor')
    .requiredOption('--domain <domain>', 'the pool domain, such as harbor.example')
    .requiredOption('--url <url>', 'where people reach the pages, such as https://harbor.example')
    .option('--email <address>', 'who is told when something stops by itself')
    .option('--config <file>', 'where to write it', 'atmos.jsonc')
    .option('--json', 'print data in place of text')
    .action(
      async (options: {
        name: string;
        domain: string;
        url: string;
        email?: string;
        config: string;
        json?: boolean;
      }) => {
        const { init } = await import('./init.ts');
        const made = await init({ ...options, file: options.config });
        if (options.json) return console.log(JSON.stringify(made));
        console.log(`Wrote ${made.file} and the keys of ${made.did}.`);
        console.log(`Label key: ${made.labelKey}`);
        console.log(`Next: look at the file, then: npx atmos start --config ${made.file}`);
        console.log('In a folder with an atmos.jsonc, npm start runs that node and not the sandbox.');
      },
    );

  program
    .command('start')
    .description('run the node until it is told to stop')
    .option('--config <file>', 'the configuration', 'atmos.jsonc')
    .action(async (options: { config: string }) => {
      const { start } = await import('./start.ts');
      await start(options.config);
    });
}
