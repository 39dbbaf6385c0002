/**
 * What `atmos member export` and `enrol --import` do: a member moves to another cooperative with its keys.
 *
 * A passphrase comes from the terminal, unseen, or from standard input; never from an argument, which others on
 * the machine can read.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { readConfig } from '../config.ts';
import type { NewDkimKey } from '../members/dkim-keys.ts';
import {
  maxPortableBytes,
  openMember,
  type PortableMember,
  type PortableRefusal,
  sealMember,
} from '../members/portable.ts';
import { openMembership } from '../state.ts';
import { Asking } from './ask.ts';

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
  const asking = new Asking();
  try {
    return await asking.secret(what);
  } finally {
    asking.close();
  }
}
