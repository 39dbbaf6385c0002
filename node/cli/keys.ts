/** `atmos keys`: the public halves of the cooperative's keys, to publish and to compare. */
import type { Command } from 'commander';

export function addKeysCommand(program: Command): void {
  program
    .command('keys')
    .description("the cooperative's DID, its label key and its DKIM record")
    .option('--config <file>', 'the configuration', 'atmos.jsonc')
    .option('--json', 'print data in place of text')
    .action(async (options: { config: string; json?: boolean }) => {
      const { readConfig } = await import('../config.ts');
      const { readKeys } = await import('../cooperative/keys.ts');
      const { keysDir } = await import('../state.ts');
      const { poolDkimRecord } = await import('../cooperative/dns-records.ts');
      const config = readConfig(options.config);
      const keys = await readKeys(keysDir(config));
      const shown = {
        did: config.did,
        labelKey: keys.label.did(),
        dkim: poolDkimRecord(config.domain, keys.pool),
      };
      if (options.json) return console.log(JSON.stringify(shown));
      console.log(`DID        ${shown.did}`);
      console.log(`Label key  ${shown.labelKey}`);
      console.log(`Pool DKIM  ${shown.dkim.name}  ${shown.dkim.type}  ${shown.dkim.value}`);
    });
}
