/**
 * What `atmos did …` does: shows what the world sees of our DID, and makes a did:plc account a labeler.
 *
 * Promise: run again, it changes nothing that is right and asks for no secret that it does not need. The account's
 * own password is used and forgotten; what is kept, sealed, is an app password that can write records.
 */
import { readFileSync, statSync } from 'node:fs';
import type { AtpAgent } from '@atproto/api';
import { applyEdits, modify, parse } from 'jsonc-parser';
import { type Config, readConfig } from '../config.ts';
import {
  accountDid,
  type Login,
  PdsRefused,
  said,
  signedIn,
  signedOut,
  whileSignedIn,
} from '../cooperative/agent.ts';
import { documentFaults } from '../cooperative/did-document.ts';
import { replaceDurably } from '../cooperative/key-files.ts';
import { readLabelKey, waitingLabelKey } from '../cooperative/label-key.ts';
import { becomeLabeler, isLabeler, type PlcOptions, plcData, requestToken } from '../cooperative/plc.ts';
import { RepoAccounts } from '../cooperative/repo-account.ts';
import { keysDir, type Membership, openMembership } from '../state.ts';
import { useWaitingKey } from './label-key.ts';
import { type Network, networkOf } from './network.ts';

export type PlcRequest = {
  /** Base URL of the account's PDS. */
  pds: string;
  /** Its handle or DID. */
  account: string;
  /** Asked for only when it is needed. */
  secret: (what: 'password' | 'token' | 'sign-in code') => Promise<string>;
  /** False: no app password is kept, and the node writes no records. */
  records: boolean;
};

export type PlcDone = {
  did: string;
  labelKey: string;
  /** Whether the directory has another document now. */
  changed: boolean;
  /** Whether the configuration names another DID now: the node is to be started again. */
  configured: boolean;
  /** Whether another label key signs now. */
  rotated: boolean;
  /** Whether the node can write records. */
  records: boolean;
};

/** @throws ConfigError, PdsRefused, PlcRefused, FetchFailed, FetchRefused; Error saying what is in the way */
export async function setUpPlc(configFile: string, request: PlcRequest): Promise<PlcDone> {
  const config = readConfig(configFile);
  const network = networkOf(config);
  const did = await didOf(request, network);
  const state = await openMembership(config, Date.now);
  try {
    refuseAnotherDid(config, did, state);
    const setUp = new PlcSetUp({ config, network, did, state, request });
    return await setUp.run();
  } finally {
    state.db.close();
  }
}

type SetUp = { config: Config; network: Network; did: string; state: Membership; request: PlcRequest };

class PlcSetUp {
  readonly #o: SetUp;
  readonly #accounts: RepoAccounts;
  #agent: AtpAgent | undefined;

  constructor(o: SetUp) {
    this.#o = o;
    this.#accounts = new RepoAccounts({ ...o.state, now: Date.now });
  }

  async run(): Promise<PlcDone> {
    try {
      return await this.#run();
    } finally {
      if (this.#agent) await signedOut(this.#agent);
    }
  }

  async #run(): Promise<PlcDone> {
    const { config, did } = this.#o;
    const dir = keysDir(config);
    const waiting = await waitingLabelKey(dir);
    const labelKey = (waiting ?? (await readLabelKey(dir))).did();
    const changed = await this.#publish(labelKey);
    // In this order: a crash in between is mended by another run.
    const records = await this.#keepAppPassword();
    const configured = config.did !== did;
    if (configured) writeDid(config.file, did);
    if (waiting) await useWaitingKey(config);
    return { did, labelKey, changed, configured, rotated: waiting !== undefined, records };
  }

  async #publish(labelKey: string): Promise<boolean> {
    const { config, network, did, request } = this.#o;
    const plc: PlcOptions = {
      ...{ plcUrl: config.network.plcUrl, fetch: network.fetch, did },
      wanted: { labelKey, labelerUrl: config.labelerUrl },
    };
    if (isLabeler(await plcData(plc), plc.wanted)) return false;
    const agent = await this.#signIn();
    await requestToken(agent);
    await becomeLabeler(agent, await request.secret('token'), plc);
    const faults = documentFaults(await network.identities.resolve(did, { refresh: true }), plc.wanted);
    if (faults.length > 0) throw new Error(`${did} still is no labeler: ${faults.join('; ')}`);
    return true;
  }

  async #keepAppPassword(): Promise<boolean> {
    const { did, request, config } = this.#o;
    if (!request.records) return false;
    const pds = await this.#pds();
    if (await this.#isKept(pds)) return true;
    const agent = await this.#signIn();
    const name = `atmos ${new URL(config.publicUrl).host}`.slice(0, 32);
    const { server } = agent.com.atproto;
    await said(() => server.revokeAppPassword({ name }));
    const { data } = await said(() => server.createAppPassword({ name }));
    this.#accounts.keep({ did, pds, appPassword: data.password });
    return true;
  }

  /** Where the repo is: one may also sign in elsewhere, at an entryway to many. */
  async #pds(): Promise<string> {
    const { did, request, network } = this.#o;
    const { pds } = await network.identities.resolve(did);
    return pds ?? request.pds;
  }

  async #isKept(pds: string): Promise<boolean> {
    const { did, network } = this.#o;
    const kept = this.#accounts.get(did);
    if (kept?.pds !== pds) return false;
    try {
      const login = { identifier: did, password: kept.appPassword };
      return await whileSignedIn(kept.pds, login, network.fetch, async () => true);
    } catch (error) {
      if (error instanceof PdsRefused && error.isAuth) return false;
      throw error;
    }
  }

  async #signIn(): Promise<AtpAgent> {
    this.#agent ??= await this.#signedIn();
    return this.#agent;
  }

  async #signedIn(): Promise<AtpAgent> {
    const { did, request, network } = this.#o;
    const login: Login = { identifier: did, password: await request.secret('password') };
    try {
      return await signedIn(request.pds, login, network.fetch);
    } catch (error) {
      if (!(error instanceof PdsRefused) || error.code !== 'AuthFactorTokenRequired') throw error;
      const authFactorToken = await request.secret('sign-in code');
      return await signedIn(request.pds, { ...login, authFactorToken }, network.fetch);
    }
  }
}

async function didOf({ account, pds }: PlcRequest, { fetch }: Network): Promise<string> {
  const did = await accountDid(account, pds, fetch);
  if (!did.startsWith('did:plc:')) throw new Error(`${account} is ${did}, and not a did:plc`);
  return did;
}

/** Labels carry the DID of who issued them: under another one they would be nobody's. */
function refuseAnotherDid(config: Config, did: string, { db }: Membership): void {
  if (config.did === did) return;
  if (config.did.startsWith('did:plc:'))
    throw new Error(`the configuration names ${config.did}, and this account is ${did}`);
  const { seq } = (db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'issued_label'").get() ?? {
    seq: 0,
  }) as { seq: number };
  if (seq > 0)
    throw new Error(
      `${config.did} has issued labels already, and peers know it: a cooperative keeps its DID. Begin anew in another state folder.`,
    );
}

/** One member of the file, everything else and all comments as they were. */
function writeDid(file: string, did: string): void {
  const text = readFileSync(file, 'utf8').replace(/^\uFEFF/, '');
  const formattingOptions = { insertSpaces: true, tabSize: 2 };
  // Beside the name, where a reader looks for it.
  const place = Object.keys(parse(text) as object).indexOf('name') + 1;
  const edits = modify(text, ['did'], did, { formattingOptions, getInsertionIndex: () => place });
  replaceDurably(file, applyEdits(text, edits), statSync(file).mode & 0o777);
}
