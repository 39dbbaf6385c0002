/**
 * Our lexicons as records of a repo, and the DNS records that lead to it.
 *
 * Promise: every schema under `lexicons/email/` and nothing else, each as `com.atproto.lexicon.schema` under its
 * NSID. Resolution does not climb: each group of names, `email.atmos.listing.*` for one, needs a TXT of its own.
 *
 * https://atproto.com/specs/lexicon#lexicon-publication-and-resolution
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Resolver } from '../resolver.ts';
import type { RepoRecord } from './repo-records.ts';

const collection = 'com.atproto.lexicon.schema';
const folder = join(import.meta.dirname, '../../lexicons');

/** `found`: the DIDs that DNS names, none where it has no such record; undefined where it did not answer. */
export type LexiconTxt = { name: string; value: string; isRight: boolean; found: string[] | undefined };

/** In the order of their NSIDs. */
export function lexiconRecords(): RepoRecord[] {
  return globSync('email/**/*.json', { cwd: folder })
    .map((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as { id: string })
    .map((schema) => ({ collection, rkey: schema.id, record: { $type: collection, ...schema } }))
    .sort((a, b) => (a.rkey < b.rkey ? -1 : 1));
}

/** Names of the TXT records that must name the repo: `_lexicon.cooperative.atmos.email`. */
export function lexiconNames(nsids: readonly string[]): string[] {
  const authorities = nsids.map((nsid) => nsid.split('.').slice(0, -1).reverse().join('.'));
  return [...new Set(authorities)].map((authority) => `_lexicon.${authority}`).sort();
}

/** @param did of the repo that holds the records */
export function lookedUp(
  names: readonly string[],
  did: string,
  resolver: Pick<Resolver, 'txt'>,
): Promise<LexiconTxt[]> {
  const value = `did=${did}`;
  return Promise.all(
    names.map(async (name) => {
      const answer = await resolver.txt(name);
      const records = answer.kind === 'found' ? answer.records : [];
      const named = records.filter((text) => text.startsWith('did=')).map((text) => text.slice(4));
      // With two of them nobody could say which counts.
      const isRight = named.length === 1 && named[0] === did;
      return { name, value, isRight, found: answer.kind === 'failed' ? undefined : named };
    }),
  );
}
