/**
 * What `atmos member show`, `export` and `enrol --import` do: beside the node, whether it runs or not.
 *
 * A passphrase comes from the terminal, unseen, or from standard input; never from an argument, which others on
 * the machine can read.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { readConfig } from '../config.ts';
import { PeerBook } from '../cooperative/peer-book.ts';
import { type Standing, standings } from '../enforcement/standing.ts';
import { signalsOn } from '../enrolment.ts';
import type { NewDkimKey } from '../members/dkim-keys.ts';
import type { Member } from '../members/members.ts';
import {
  maxPortableBytes,
  openMember,
  type PortableMember,
  type PortableRefusal,
  sealMember,
} from '../members/portable.ts';
import { type Finding, findingText } from '../reputation/findings.ts';
import { openMembership } from '../state.ts';

export type ShownMember = Member & { standing: Standing; signals: Finding[] };

/** @throws ConfigError; RangeError when not enrolled */
export async function showMember(configFile: string, did: string): Promise<ShownMember> {
  const config = readConfig(configFile);
  const { db, members } = await openMembership(config, Date.now);
  try {
    const member = members.get(did);
    if (!member) throw new RangeError(`${did} is not enrolled`);
    const book = new PeerBook({ db, configured: config.peers, now: Date.now });
    const domains = member.domains.map(({ name }) => name);
    const standing = standings({ db, policy: config.caps, now: Date.now })(did);
    return { ...member, standing, signals: signalsOn(config, book, Date.now, did, domains) };
  } finally {
    db.close();
  }
}

export function memberText({ did, handle, domains, standing, signals }: ShownMember): string {
  const { state, reason, until, by, tier } = standing;
  const end = until === null ? '' : `, until ${new Date(until).toISOString()}`;
  return [
    `${did}${handle ? ` (${handle})` : ''}`,
    `Domains: ${domains.map(({ name }) => name).join(', ') || 'none'}`,
    `Standing: ${state}, tier ${tier}${reason ? `: ${reason}` : ''}${state === 'active' ? '' : ` (${by}${end})`}`,
    ...(signals.length > 0
      ? ['What peers say, in private:', ...signals.map((one) => `  ${findingText(one)}`)]
      : []),
  ].join('\n');
}

/** @returns the domains. @throws ConfigError; RangeError when not enrolled; Error when the file exists */
export async function exportMember(
  configFile: string,
  did: string,
  file: string,
  passphrase: string,
): Promise<string[]> {
  const config = readConfig(configFile);
  const { db, members } = await openMembership(config, Date.now);
  try {
    const member = members.get(did);
    if (!member) throw new RangeError(`${did} is not enrolled`);
    const domains = member.domains.map(({ name }) => ({
      name,
      keys: members.dkimKeys(name).map(({ domain: _, ...key }): NewDkimKey => key),
    }));
    const portable = { did, handle: member.handle, from: config.did, exportedAt: Date.now(), domains };
    writeFileSync(file, await sealMember(portable, passphrase), { mode: 0o600, flag: 'wx' });
    return domains.map(({ name }) => name);
  } finally {
    db.close();
  }
}

/** @throws Error saying why it cannot be used */
export async function importedMember(file: string, passphrase: string): Promise<PortableMember> {
  if (statSync(file).size > maxPortableBytes) throw new Error(refusalText('not-an-export', file));
  const opened = await openMember(readFileSync(file, 'utf8'), passphrase);
  if (typeof opened === 'string') throw new Error(refusalText(opened, file));
  return opened;
}

function refusalText(why: PortableRefusal, file: string): string {
  switch (why) {
    case 'not-an-export':
      return `${file} is not what atmos member export wrote.`;
    case 'wrong-passphrase':
      return `${file} does not open: the passphrase is wrong, or the file is damaged.`;
    case 'bad-content':
      return `${file} opens, and holds keys or names that cannot be used here.`;
  }
}

/** One line. @throws Error when there is none */
export async function readPassphrase(what: string): Promise<string> {
  const isAsked = process.stdin.isTTY === true;
  const lines = createInterface({ input: process.stdin, output: process.stdout, terminal: isAsked });
  try {
    if (isAsked) hideTyping(lines, `${what}: `);
    const line = await firstLine(lines);
    if (line === undefined || line === '') throw new Error('a passphrase is wanted on standard input.');
    return line;
  } finally {
    lines.close();
    if (isAsked) process.stdout.write('\n');
  }
}

function firstLine(lines: Interface): Promise<string | undefined> {
  return new Promise((resolve) => {
    lines.once('line', resolve);
    lines.once('close', () => resolve(undefined));
  });
}

function hideTyping(lines: Interface, prompt: string): void {
  process.stdout.write(prompt);
  (lines as unknown as { _writeToOutput: (text: string) => void })._writeToOutput = () => undefined;
}
