/** `atmos keys`: the public halves of the cooperative's keys, and how the pool domain's DKIM key changes. */
import type { Command } from 'commander';
import { type Common, common, print } from './options.ts';

export function addKeysCommand(program: Command): void {
  const keys = program.command('keys').description("the cooperative's DID, its label key and its DKIM keys");
  common(keys.command('show', { isDefault: true }))
    .description('what the cooperative publishes')
    .action(async (options: Common) => {
      const { shownKeys } = await import('./pool-rotation.ts');
      const shown = await shownKeys(options.config);
      if (options.json) return print(shown);
      console.log(`DID        ${shown.did}`);
      console.log(`Label key  ${shown.labelKey}`);
      for (const { name, type, value, signs } of shown.dkim)
        console.log(`Pool DKIM  ${name}  ${type}  ${value}${signs ? '' : '  (does not sign)'}`);
    });

  common(keys.command('rotate'))
    .description('make a new DKIM key of the pool domain, and print its record; the old one still signs')
    .action(async (options: Common) => {
      const { beginPoolRotation } = await import('./pool-rotation.ts');
      const { name, value } = await beginPoolRotation(options.config);
      if (options.json) return print({ name, value });
      console.log(`  TXT\t${name}\t${value}`);
      console.log('When it is published: atmos keys activate');
    });

  common(keys.command('activate'))
    .description('let the new key sign, once DNS has it')
    .action(async (options: Common) => {
      const { activatePoolRotation } = await import('./pool-rotation.ts');
      const selector = await activatePoolRotation(options.config);
      if (options.json) return print({ selector });
      console.log(`${selector} signs now. Leave the old record for a week, then: atmos keys drop <selector>`);
    });

  common(keys.command('drop'))
    .description('remove a DKIM key of the pool domain that does not sign')
    .argument('<selector>')
    .option('--at-once', 'also within a week of its last signature: for a key that is no secret any more')
    .action(async (selector: string, options: Common & { atOnce?: boolean }) => {
      const { dropOldPoolKey } = await import('./pool-rotation.ts');
      dropOldPoolKey(options.config, selector, options);
      options.json ? print({ dropped: selector }) : console.log('Its record may go too.');
    });
}
