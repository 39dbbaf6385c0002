/** `atmos operator …`: ways into the running node for the people who run it. */
import type { Command } from 'commander';
import { callRunning, whoActs } from './options.ts';

export function addOperatorCommands(program: Command): void {
  program
    .command('operator')
    .description('the pages of the operator')
    .command('link')
    .description('print a link that opens the pages in a browser; good for five minutes, and once')
    .option('--config <file>', 'the configuration', 'atmos.jsonc')
    .action(async (options: { config: string }) => {
      const { readConfig } = await import('../config.ts');
      const { listen } = readConfig(options.config);
      if (!listen.operator)
        throw new Error('the pages are off. Add "operator" to "listen", for example "127.0.0.1:8090".');
      const answer = await callRunning(options, 'POST', '/operator/links', { name: whoActs() });
      const { host, port } = listen.operator;
      console.log(
        `http://${host.includes(':') ? `[${host}]` : host}:${port}/login?t=${(answer as { t: string }).t}`,
      );
    });
}
