/** `atmos dkim …`: new keys for a domain without a moment at which mail cannot be verified. */
import type { Command } from 'commander';
import { type Common, common, print } from './options.ts';

export function addDkimCommands(program: Command): void {
  const dkim = program.command('dkim').description('the DKIM keys of a domain, and how they change');

  common(dkim.command('status'))
    .description('which keys sign, and which wait or leave')
    .argument('<domain>')
    .action(async (domain: string, options: Common) => {
      const { dkimStatus } = await import('./dkim.ts');
      const keys = await dkimStatus(options.config, domain);
      if (options.json) return print(keys);
      for (const key of keys) console.log(`${key.selector}\t${describe(key)}`);
    });

  common(dkim.command('rotate'))
    .description('make new keys, and print the DNS records to publish; the old ones still sign')
    .argument('<domain>')
    .action(async (domain: string, options: Common) => {
      const { beginRotation } = await import('./dkim.ts');
      const records = await beginRotation(options.config, domain);
      if (options.json) return print(records);
      for (const { name, value } of records) console.log(`  TXT\t${name}\t${value}`);
      const selectors = records.map(({ name }) => name.split('.', 1)[0]).join(', ');
      console.log(`When they are published, and the member's attestation names ${selectors} too`);
      console.log(`(atmos member attest): atmos dkim activate ${domain}`);
    });

  common(dkim.command('activate'))
    .description('let the new keys sign, once DNS has them and the attestation names their selectors')
    .argument('<domain>')
    .option('--at-once', 'the old keys end now: for keys that are no secret any more')
    .action(async (domain: string, options: Common & { atOnce?: boolean }) => {
      const { activateRotation } = await import('./dkim.ts');
      const outcome = await activateRotation(options.config, domain, options);
      if (outcome.kind === 'not-published')
        throw new Error(`not yet: DNS does not have ${outcome.missing.join(', ')}`);
      if (outcome.kind === 'nothing-pending')
        throw new Error(`${domain} has no new keys. Make them: atmos dkim rotate ${domain}`);
      const old = options.atOnce ? 'Take the old records away.' : 'Leave the old records for a week.';
      options.json ? print(outcome) : console.log(`The new keys sign now. ${old}`);
    });

  common(dkim.command('abandon'))
    .description('give up new keys that do not sign yet')
    .argument('<domain>')
    .action(async (domain: string, options: Common) => {
      const { abandonRotation } = await import('./dkim.ts');
      const abandoned = await abandonRotation(options.config, domain);
      if (!abandoned) throw new Error(`${domain} has no new keys that wait`);
      if (options.json) print({ domain, abandoned });
    });
}

function describe(key: { state: string; activeAt?: number | null; retiredAt?: number }): string {
  if (key.state === 'pending')
    return key.activeAt ? `signs from ${time(key.activeAt)}` : 'new: publish it, then activate it';
  if (key.state === 'leaving') return `leaves; its record is needed until ${time(key.retiredAt!)}`;
  return key.state === 'retired' ? 'retired: its record may go' : 'signs';
}

function time(at: number): string {
  return new Date(at).toISOString();
}
