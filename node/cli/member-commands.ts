/** The words and options of `atmos member …`; the work is member.ts's. */
import type { Command } from 'commander';
import type { DnsRecord } from '../members/members.ts';
import type { EnrolRequest } from './member.ts';
import { type Common, common, print } from './options.ts';
import { addReputationCommands } from './reputation-commands.ts';
import { addStandingCommands } from './standing-commands.ts';

export function addMemberCommands(program: Command): void {
  const member = program.command('member').description('members, their domains and keys');
  addEnrolment(member);
  addKeys(member);
  addAttestation(member);
  addStandingCommands(member);
  addReputationCommands(member);
}

function addEnrolment(member: Command): void {
  common(member.command('enrol'))
    .description('enrol a member with its domains; prints its API key once, and the DNS records to publish')
    .option('--did <did>', "the member's DID")
    .option('--handle <handle>', 'a name to log in with, beside the DID')
    .option('--domain <domain...>', 'a domain to send from; may be given again')
    .option('--import <file>', 'with the keys that it exported at its last home; asks for the passphrase')
    .option('--no-relay', 'for attestation alone: the member sends by other ways')
    .option('--category <category>', 'of the key: of mail that does not say, such as transactional for a PDS')
    .action(async (options: Common & Enrolling, command: Command) => {
      const { enrolMember } = await import('./member.ts');
      const made = await enrolMember(options.config, await requestOf(options, command));
      if (options.json) return print(made);
      console.log(`Enrolled ${made.did} with ${made.domains.join(', ')}.`);
      if (made.held)
        console.log('Held for review: look at `atmos member show`, then reinstate it or leave it so.');
      console.log(`API key, shown this once: ${made.apiKey}`);
      console.log('DNS records to publish:');
      printRecords(made.dns);
    });

  common(member.command('list'))
    .description('all members')
    .action(async (options: Common) => {
      const { listMembers } = await import('./member.ts');
      const members = await listMembers(options.config);
      if (options.json) return print(members);
      for (const { did, handle, domains } of members) {
        console.log([did, handle ?? '-', domains.map(({ name }) => name).join(',')].join('\t'));
      }
    });

  common(member.command('dns'))
    .description('the DNS records of a domain')
    .argument('<domain>')
    .action(async (domain: string, options: Common) => {
      const { dnsRecords } = await import('./member.ts');
      const records = await dnsRecords(options.config, domain);
      options.json ? print(records) : printRecords(records);
    });

  common(member.command('check'))
    .description('have the running node check the DNS of a domain now')
    .argument('<domain>')
    .action(async (domain: string, options: Common) => {
      const { checkNow } = await import('./member.ts');
      await checkNow(options.config, domain);
      if (options.json) print({ domain, due: 'now' });
    });

  common(member.command('checks'))
    .description('what the last check of a domain found, and why its labels stand or not')
    .argument('<domain>')
    .option('--evidence', 'also what was asked, of whom, when, and the answers')
    .action(async (domain: string, options: Common & { evidence?: boolean }) => {
      const { lastCheck } = await import('./member.ts');
      const known = await lastCheck(options.config, domain);
      if (options.json) return print(known);
      const { reportOf } = await import('../labeler/report.ts');
      for (const line of reportOf(known, options.evidence === true)) console.log(line);
    });

  common(member.command('forward-to'))
    .description('where bounces of a domain are sent, once the owner of the address has confirmed it')
    .argument('<domain>')
    .argument('<address>')
    .action(async (domain: string, address: string, options: Common) => {
      const { setForwardTo } = await import('./member.ts');
      const confirmed = await setForwardTo(options.config, domain, address);
      if (options.json) return print({ domain, forwardTo: address, confirmed });
      if (!confirmed) console.log(`A link was mailed to ${address}: it counts once its owner followed it.`);
    });
}

type Enrolling = {
  did?: string;
  handle?: string;
  domain?: string[];
  import?: string;
  relay: boolean;
  category?: string;
};

/** What the file of an import says, the options may leave out; of its domains they may choose. */
async function requestOf(
  { import: file, domain, did, ...rest }: Enrolling,
  command: Command,
): Promise<EnrolRequest> {
  if (file === undefined) {
    if (!did || !domain)
      command.error("error: required option '--did <did>' or '--domain <domain...>' not specified");
    return { ...rest, did, domains: domain };
  }
  const { importedMember, readPassphrase } = await import('./moving-home.ts');
  const brought = await importedMember(file, await readPassphrase('The passphrase of the file'));
  if (did !== undefined && did !== brought.did)
    throw new Error(`${file} is of ${brought.did}, not of ${did}.`);
  const keys = new Map(brought.domains.map(({ name, keys }) => [name, keys]));
  const handle = brought.handle ? { handle: brought.handle } : {};
  return { ...handle, ...rest, did: brought.did, domains: domain ?? [...keys.keys()], keys };
}

function addKeys(member: Command): void {
  common(member.command('key'))
    .description('make another API key; earlier ones stay valid until revoked')
    .argument('<did>')
    .option('--name <name>', 'what it is for', 'key')
    .option('--category <category>', 'of mail that does not say')
    .action(async (did: string, options: Common & { name: string; category?: string }) => {
      const { newApiKey } = await import('./member.ts');
      const made = await newApiKey(options.config, did, options.name, options.category);
      options.json ? print(made) : console.log(`API key ${made.id}, shown this once: ${made.key}`);
    });

  common(member.command('keys'))
    .description('the API keys of a member')
    .argument('<did>')
    .action(async (did: string, options: Common) => {
      const { apiKeys } = await import('./member.ts');
      const keys = await apiKeys(options.config, did);
      if (options.json) return print(keys);
      for (const { id, name, defaultCategory, createdAt, lastUsedAt, revokedAt } of keys) {
        const used = lastUsedAt ? `used ${date(lastUsedAt)}` : 'never used';
        const state = revokedAt ? `revoked ${date(revokedAt)}` : used;
        console.log([id, name, defaultCategory ?? '-', `made ${date(createdAt)}`, state].join('\t'));
      }
    });

  common(member.command('revoke'))
    .description('end an API key')
    .argument('<did>')
    .argument('<id>', 'of the key, as `atmos member keys` shows it')
    .action(async (did: string, id: string, options: Common) => {
      const { revokeApiKey } = await import('./member.ts');
      if (!(await revokeApiKey(options.config, did, id))) throw new Error(`${did} has no live key ${id}`);
      if (options.json) print({ did, revoked: id });
    });
}

function addAttestation(member: Command): void {
  member
    .command('attest')
    .description("write the attestation of a domain into the member's own repository")
    .requiredOption('--pds <url>', "the member's PDS")
    .requiredOption('--identifier <handle>', 'handle or DID')
    .option('--password-env <name>', 'the environment variable that holds the password', 'ATMOS_PASSWORD')
    .requiredOption('--domain <domain>')
    .requiredOption('--selector <selector...>', 'DKIM selector; may be given again')
    .option('--relay-member', 'the domain sends through a cooperative')
    .option('--json', 'print data in place of text')
    .action(
      async (options: {
        pds: string;
        identifier: string;
        passwordEnv: string;
        domain: string;
        selector: string[];
        relayMember?: boolean;
        json?: boolean;
      }) => {
        const { attest } = await import('../members/attest.ts');
        const password = process.env[options.passwordEnv];
        if (!password)
          throw new Error(`put the password into the environment variable ${options.passwordEnv}`);
        const { selector: selectors, relayMember = false, ...rest } = options;
        const made = await attest({ ...rest, selectors, relayMember, password });
        options.json ? print(made) : console.log(`${made.uri} is now ${made.cid}`);
      },
    );
}

function date(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

function printRecords(records: DnsRecord[]): void {
  for (const { type, name, value } of records) console.log(`  ${type}\t${name}\t${value}`);
}
