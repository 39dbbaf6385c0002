/**
 * What `atmos lexicon …` does: our schemas as records of a repo, and the DNS records that lead there.
 *
 * The repo is that of the cooperative's own did:plc, or of an account that is named; its password is then used
 * and forgotten. Which cooperative publishes them is a matter of who holds the domain in their names.
 */
import { readConfig } from '../config.ts';
import { accountDid, agentOf, whileSignedIn } from '../cooperative/agent.ts';
import { type LexiconTxt, lexiconNames, lexiconRecords, lookedUp } from '../cooperative/lexicon-records.ts';
import { RepoAccounts } from '../cooperative/repo-account.ts';
import { applyWrites, missingWrites } from '../cooperative/repo-records.ts';
import { openMembership } from '../state.ts';
import { type Network, networkOf } from './network.ts';

/** An account other than the cooperative's own. `password` is called only when something is to be written. */
export type GivenRepo = { pds: string; account: string; password: () => Promise<string> };

export type Published = { did: string; written: string[]; lexicons: string[]; dns: LexiconTxt[] };

type Repo = { did: string; pds: string; password: () => Promise<string> };

/** @throws ConfigError, PdsRefused, FetchFailed, FetchRefused; Error where no repo is known */
export async function publishLexicons(configFile: string, given?: GivenRepo): Promise<Published> {
  const network = networkOf(readConfig(configFile));
  const repo = given ? await named(given, network) : await own(configFile);
  const records = lexiconRecords();
  const reader = await agentOf(repo.pds, network.fetch);
  const writes = await missingWrites(reader, repo.did, { records, whole: [] });
  if (writes.length > 0) {
    const login = { identifier: repo.did, password: await repo.password() };
    await whileSignedIn(repo.pds, login, network.fetch, (agent) => applyWrites(agent, repo.did, writes));
  }
  const lexicons = records.map(({ rkey }) => rkey);
  const dns = await lookedUp(lexiconNames(lexicons), repo.did, network.resolver);
  return { did: repo.did, written: writes.map(({ rkey }) => rkey), lexicons, dns };
}

async function own(configFile: string): Promise<Repo> {
  const config = readConfig(configFile);
  const state = await openMembership(config, Date.now);
  try {
    const account = new RepoAccounts({ ...state, now: Date.now }).get(config.did);
    if (!account)
      throw new Error('the cooperative has no repo to write to. Name an account: --pds URL --account HANDLE');
    return { did: account.did, pds: account.pds, password: async () => account.appPassword };
  } finally {
    state.db.close();
  }
}

async function named({ pds, account, password }: GivenRepo, network: Network): Promise<Repo> {
  const did = await accountDid(account, pds, network.fetch);
  // Where the repo is: one may also sign in elsewhere, at an entryway to many.
  const { pds: home = pds } = await network.identities.resolve(did);
  return { did, pds: home, password };
}
