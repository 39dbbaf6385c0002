/**
 * Keeps the records of our repo as they should be: at the start, when they change, and once a day.
 *
 * Promise: what stands there right is not written again; what could not be written is tried again, at first after
 * half a minute, then ever more rarely, to an hour. One attempt is under way at a time; stop() ends it.
 * Only a cooperative with a did:plc has a repo; without its app password nothing is written, and that is said once.
 */
import type { Logger } from 'pino';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import { agentOf, PdsRefused, whileSignedIn } from './agent.ts';
import type { RepoAccount } from './repo-account.ts';
import { applyWrites, missingWrites, type Wanted } from './repo-records.ts';

export type RepoPublisherOptions = {
  /** Undefined while none is known. */
  account: () => RepoAccount | undefined;
  wanted: () => Wanted;
  /** Another number after each change. */
  version: () => number;
  fetch: GuardedFetch;
  log: Pick<Logger, 'info' | 'warn'>;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** How often `version` is looked at. Default 1 s. */
  lookMs?: number;
};

const dayMs = 86_400_000;
const firstRetryMs = 30_000;
const maxRetryMs = 3_600_000;

export class RepoPublisher {
  readonly #o: RepoPublisherOptions;
  readonly #stopping = new AbortController();
  readonly #fetch: GuardedFetch;
  #timer: NodeJS.Timeout | undefined;
  #publishing: Promise<void> | undefined;
  #written: number | undefined;
  #tried: number | undefined;
  #dueAt = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #hasToldOfNoAccount = false;

  constructor(options: RepoPublisherOptions) {
    this.#o = options;
    const { signal } = this.#stopping;
    this.#fetch = (url, init) => options.fetch(url, { ...init, signal });
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), this.#o.lookMs ?? 1_000);
    this.#timer.unref();
    void this.look();
  }

  /** Writes what is due. Rejects for nothing but corrupt state of our own. */
  look(): Promise<void> {
    this.#publishing ??= this.#look().finally(() => {
      this.#publishing = undefined;
    });
    return this.#publishing;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#publishing;
  }

  async #look(): Promise<void> {
    const { version, now } = this.#o;
    const wanted = version();
    const isNew = wanted !== (this.#failures > 0 ? this.#tried : this.#written);
    if (!isNew && now() < this.#dueAt) return;
    const account = this.#account();
    if (!account) return;
    this.#tried = wanted;
    try {
      await this.#publish(account);
      this.#written = wanted;
      this.#failures = 0;
      this.#dueAt = now() + dayMs;
    } catch (error) {
      this.#failed(error as Error);
    }
  }

  async #publish(account: RepoAccount): Promise<void> {
    const { log, count } = this.#o;
    const reader = await agentOf(account.pds, this.#fetch);
    const writes = await missingWrites(reader, account.did, this.#o.wanted());
    if (writes.length === 0) return;
    const login = { identifier: account.did, password: account.appPassword };
    await whileSignedIn(account.pds, login, this.#fetch, (agent) => applyWrites(agent, account.did, writes));
    for (const { kind } of writes) count('repo_writes', kind);
    log.info(
      { records: writes.map(({ kind, collection, rkey }) => `${kind} ${collection}/${rkey}`) },
      'repo',
    );
  }

  #account(): RepoAccount | undefined {
    const account = this.#o.account();
    if (!account && !this.#hasToldOfNoAccount) {
      this.#hasToldOfNoAccount = true;
      this.#o.log.info('our repo is not written: no password of its account is known (atmos did plc)');
    }
    return account;
  }

  #failed(error: Error): void {
    if (this.#stopping.signal.aborted) return;
    const { log, count, now } = this.#o;
    this.#failures += 1;
    const waitMs = Math.min(firstRetryMs * 2 ** Math.min(this.#failures - 1, 20), maxRetryMs);
    this.#dueAt = now() + waitMs;
    count('repo_writes_failed', error instanceof PdsRefused ? 'refused' : 'network');
    const advice = error instanceof PdsRefused && error.isAuth ? ' (a new password: atmos did plc)' : '';
    if (this.#failures === 1 || waitMs === maxRetryMs)
      log.warn({ err: error, again: waitMs / 1000 }, `our repo could not be written${advice}`);
  }
}
