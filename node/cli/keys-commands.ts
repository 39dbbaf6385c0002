/** `atmos keys`: the public halves of the cooperative's keys, and how the label key and the pool domain's DKIM key change. */
import { Argument, type Command } from 'commander';
import { documentText } from './did-commands.ts';
import type { Rotated } from './label-key.ts';
import { type Common, common, print } from './options.ts';

export function addKeysCommand(program: Command): void {
  const keys = program.command('keys').description("the cooperative's DID, its label key and its DKIM keys");
  common(keys.command('show', { isDefault: true }))
    .description('what the cooperative publishes, and whether the world sees it')
    .action(async (options: Common) => {
      const [{ shownLabelKeys }, { shownPoolKeys }] = await Promise.all([
        import('./label-key.ts'),
        import('./pool-rotation.ts'),
      ]);
      const dkim = await shownPoolKeys(options.config);
      const shown = await shownLabelKeys(options.config);
      if (options.json) return print({ ...shown, dkim });
      console.log(`DID        ${shown.did}`);
      console.log(`Label key  ${shown.labelKey}`);
      if (shown.waiting) console.log(`  waiting  ${shown.waiting}  (until the document names it)`);
      for (const key of shown.old.keys) console.log(`  before   ${key}  (signs no more)`);
      if (shown.old.labels > 0)
        console.log(`           ${shown.old.labels} labels are signed anew when they are read`);
      for (const line of documentText(shown.document)) console.log(line);
      for (const { name, type, value, signs } of dkim)
        console.log(`Pool DKIM  ${name}  ${type}  ${value}${signs ? '' : '  (does not sign)'}`);
    });

  common(keys.command('import'))
    .description("take over another labeler's key, with the same did:key; a key that is there stays")
    .requiredOption('--hex <file>', '32 bytes in hex; - for standard input')
    .action(async (options: Common & { hex: string }) => {
      const { importKey } = await import('./label-key.ts');
      const { labelKey } = await importKey(options.config, options.hex);
      options.json ? print({ labelKey }) : console.log(`Label key  ${labelKey}`);
    });

  common(keys.command('rotate'))
    .description('make a new key: of the pool domain, whose record is then published, or the label key')
    .addArgument(new Argument('[key]').choices(['pool', 'label']).default('pool'))
    .action(async (key: 'pool' | 'label', options: Common) => {
      if (key === 'label') return rotateLabelKey(options);
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
    .description(
      'remove a DKIM key of the pool domain that does not sign, or with `label` the old label keys',
    )
    .argument('<selector>')
    .option(
      '--at-once',
      'also while its signatures may still be looked at: for a key that is no secret any more',
    )
    .action(async (selector: string, options: Common & { atOnce?: boolean }) => {
      if (selector === 'label') return dropLabelKeys(options);
      const { dropOldPoolKey } = await import('./pool-rotation.ts');
      dropOldPoolKey(options.config, selector, options);
      options.json ? print({ dropped: selector }) : console.log('Its record may go too.');
    });
}

async function rotateLabelKey(options: Common): Promise<void> {
  const { rotateLabelKey } = await import('./label-key.ts');
  const rotated = await rotateLabelKey(options.config);
  options.json ? print(rotated) : console.log(rotatedText(rotated));
}

function rotatedText({ did, labelKey, before, signs, running, document }: Rotated): string {
  if (!signs)
    return [
      `New label key  ${labelKey}`,
      `It waits: ${before} signs until the document names the new one.`,
      did.startsWith('did:plc:')
        ? 'Next: atmos did plc --pds URL --account HANDLE'
        : `Next: put it into the document of ${did}, which stands elsewhere; then again: atmos keys rotate label`,
    ].join('\n');
  return [
    `Label key  ${labelKey}`,
    `           before: ${before}`,
    running ? 'The running node signs with it now, and serves it.' : 'It signs from the next start on.',
    // A document that stands elsewhere is not ours to change.
    ...(running && document.state !== 'right' ? documentText(document) : []),
    'Peers see another key and are alerted: they believe labels of it after 24 h, or once you have told them.',
  ].join('\n');
}

async function dropLabelKeys(options: Common & { atOnce?: boolean }): Promise<void> {
  const { dropOldLabelKeys } = await import('./label-key.ts');
  const dropped = await dropOldLabelKeys(options.config, options);
  options.json
    ? print({ dropped })
    : console.log(dropped.length > 0 ? `Dropped ${dropped.join(', ')}` : 'There is none.');
}
