/**
 * Answers one question: whose API key is this?
 *
 * Promise: a wrong answer costs one bcrypt and reads the same whether the account, the key or neither
 * exists. A right one is remembered under a keyed hash for a day after its last use, so a session does not pay
 * bcrypt again, and whoever sends daily is not shut out with a network that guesses; a revoked key is refused at
 * once all the same. At most `concurrency` checks run; `maxWaiting` wait for keys that exist, four for each, and
 * `maxWaiting` behind them for others: beyond that the answer is `busy`, not a longer queue. Wrong logins are answered ever later, and refused for a while beyond a limit of their network
 * (login-throttle.ts); a right key never waits for others' guesses.
 */
import { hash, randomBytes } from 'node:crypto';
import * as bcrypt from '@node-rs/bcrypt';
import { type KeyCredential, keyIdOf } from './api-keys.ts';
import type { Category } from './category.ts';
import { wholeLogin } from './login-name.ts';
import { LoginThrottle, type LoginThrottleOptions } from './login-throttle.ts';
import { didSyntax, normalizeHandle } from './members.ts';

export type Principal = { did: string; keyId: string; defaultCategory: Category | null };

export type Authentication =
  | { kind: 'authenticated'; principal: Principal }
  /** No such key, a wrong or revoked one. */
  | { kind: 'failed' }
  /** The key is good, but it belongs to another account than `user`. SMTP answers as for `failed`. */
  | { kind: 'mismatch' }
  | { kind: 'busy' }
  /** Too many wrong logins came from this address; nothing was looked at. */
  | { kind: 'throttled' };

/** A wrong login. `user` is what it called itself, '' unless that is a DID or a name, since it may be a secret. */
export type FailedLogin = { address: string | undefined; user: string; did: string | undefined };

/** What this file needs of members.ts. */
export type Credentials = {
  credential(keyId: string): KeyCredential | undefined;
  markKeyUsed(keyId: string): void;
};

export type AuthenticatorOptions = {
  credentials: Credentials;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /** The cost of stored hashes, so that a check against none takes as long. Default 10. */
  bcryptCost?: number;
  /** Checks at once; each occupies a thread of libuv's four. Default 2. */
  concurrency?: number;
  /** Default 64: at 45 ms a check the last one waits a second and a half. */
  maxWaiting?: number;
  /** How long after its last use. Default 24 h. */
  rememberMs?: number;
  /** One bcrypt. Default: a real one; tests count them. */
  verify?: (password: string, hash: string) => Promise<boolean>;
  /** Figures of login-throttle.ts. */
  throttle?: Omit<LoginThrottleOptions, 'now'>;
  /** Answers that are kept back at once; beyond it they are `busy` at once. Default 1,000. */
  maxDelayed?: number;
  /** How an answer is kept back. Default: a timer. */
  wait?: (ms: number) => Promise<void>;
  /** Told of each wrong login; `did` where the key's id is a member's. */
  authFailed?: (failed: FailedLogin) => void;
};

const maxRemembered = 10_000;
const maxChecksPerKey = 4;
const noteEveryMs = 300_000;

export class Authenticator {
  readonly #options: Required<AuthenticatorOptions>;
  /** Hashed with what this process alone knows: no list of password hashes is of use to another. */
  readonly #secret = randomBytes(32).toString('base64');
  readonly #nobody: string;
  /** Last used last. Unix ms; `notedAt`: when its use was last written down. */
  readonly #remembered = new Map<string, { usedAt: number; notedAt: number }>();
  readonly #underway = new Map<string, Promise<boolean>>();
  /** Checks against a key that exists go first: whoever only guesses cannot shut members out. */
  readonly #waitingMembers: (() => void)[] = [];
  readonly #waitingStrangers: (() => void)[] = [];
  /** Different passwords under way for one key: whoever knows a key's id can fill no lane with it. */
  readonly #checks = new Map<string, number>();
  readonly #throttle: LoginThrottle;
  #running = 0;
  #delayed = 0;

  constructor(options: AuthenticatorOptions) {
    const defaults = {
      bcryptCost: 10,
      concurrency: 2,
      maxWaiting: 64,
      rememberMs: 86_400_000,
      maxDelayed: 1000,
    };
    const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms).unref());
    const quiet = { throttle: {}, authFailed: () => undefined };
    this.#options = { ...defaults, ...quiet, verify: bcrypt.verify, wait, ...options };
    this.#throttle = new LoginThrottle({ ...this.#options.throttle, now: options.now });
    this.#nobody = bcrypt.hashSync(randomBytes(32).toString('base64'), this.#options.bcryptCost);
  }

  /** @param name DID or handle; @param secret an API key; @param address of the client */
  async authenticate(name: string, secret: string, address?: string): Promise<Authentication> {
    const { user, password } = wholeLogin(name, secret);
    const keyId = keyIdOf(password);
    const credential = keyId === undefined ? undefined : this.#options.credentials.credential(keyId);
    const tag = this.#tag(password, credential);
    const isKnown = credential !== undefined && this.#isRemembered(tag, credential.keyId);
    if (!isKnown && address !== undefined && this.#throttle.isBlocked(address))
      return this.#answer({ kind: 'throttled' });
    const isRight = isKnown || (await this.#check(password, credential, tag));
    if (isRight === 'busy') return this.#answer({ kind: 'busy' });
    if (!isRight || !credential) return this.#wrong('failed', { user, address, credential });
    if (!isNameOf(credential, user)) return this.#wrong('mismatch', { user, address, credential });
    const { did, defaultCategory } = credential;
    return { kind: 'authenticated', principal: { did, keyId: credential.keyId, defaultCategory } };
  }

  /** For a session that outlives its login: is the key that it used still good? */
  isLive({ keyId }: Principal): boolean {
    return this.#options.credentials.credential(keyId) !== undefined;
  }

  async #wrong(
    kind: 'failed' | 'mismatch',
    o: { user: string; address: string | undefined; credential: KeyCredential | undefined },
  ): Promise<Authentication> {
    const { wait, authFailed, maxDelayed } = this.#options;
    const user = nameOnly(o.user);
    const did = o.credential?.did;
    const delayMs = this.#throttle.failed(o.address, did ?? user);
    authFailed({ address: o.address, user, did });
    if (delayMs > 0) {
      if (this.#delayed >= maxDelayed) return this.#answer({ kind: 'busy' });
      this.#delayed += 1;
      await wait(delayMs).finally(() => {
        this.#delayed -= 1;
      });
    }
    return this.#answer({ kind });
  }

  #answer(answer: Exclude<Authentication, { kind: 'authenticated' }>): Authentication {
    this.#options.count('auth_refused', answer.kind);
    return answer;
  }

  #tag(password: string, credential: KeyCredential | undefined): string {
    // The stored hash is part of the tag: a remembered answer dies with the row that it was about.
    const against = credential?.hash ?? this.#nobody;
    // No HMAC, which costs 5 µs a login more: a tag is shown to nobody who could extend it.
    return hash('sha256', `${this.#secret}\0${against}\0${password}`, 'base64');
  }

  async #check(
    password: string,
    credential: KeyCredential | undefined,
    tag: string,
  ): Promise<boolean | 'busy'> {
    const underway = this.#underway.get(tag);
    if (underway) return underway;
    const queue = credential ? this.#waitingMembers : this.#waitingStrangers;
    if (credential && this.#checksOf(credential.keyId) >= maxChecksPerKey) return 'busy';
    if (this.#running >= this.#options.concurrency && queue.length >= this.#options.maxWaiting) return 'busy';
    const check = this.#verify(password, credential?.hash ?? this.#nobody, queue).finally(() =>
      this.#underway.delete(tag),
    );
    this.#underway.set(tag, check);
    if (credential) this.#countCheck(credential.keyId, check);
    const isRight = await check;
    if (isRight && credential) this.#remember(tag, credential.keyId);
    return isRight;
  }

  async #verify(password: string, against: string, queue: (() => void)[]): Promise<boolean> {
    if (this.#running < this.#options.concurrency) this.#running += 1;
    else await new Promise<void>((resolve) => queue.push(resolve));
    try {
      return await this.#options.verify(password, against);
    } finally {
      // The place passes straight to the longest waiting: freed first, a newcomer could take it too.
      const next = this.#waitingMembers.shift() ?? this.#waitingStrangers.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }

  #checksOf(keyId: string): number {
    return this.#checks.get(keyId) ?? 0;
  }

  #countCheck(keyId: string, check: Promise<boolean>): void {
    this.#checks.set(keyId, this.#checksOf(keyId) + 1);
    const done = () => {
      const left = this.#checksOf(keyId) - 1;
      if (left > 0) this.#checks.set(keyId, left);
      else this.#checks.delete(keyId);
    };
    check.then(done, done);
  }

  #isRemembered(tag: string, keyId: string): boolean {
    const known = this.#remembered.get(tag);
    if (!known) return false;
    this.#remembered.delete(tag);
    if (this.#options.now() - known.usedAt >= this.#options.rememberMs) return false;
    this.#remember(tag, keyId, known.notedAt);
    return true;
  }

  #remember(tag: string, keyId: string, notedAt = Number.NEGATIVE_INFINITY): void {
    if (this.#remembered.size >= maxRemembered) {
      const [longestUnused] = this.#remembered.keys();
      this.#remembered.delete(longestUnused!);
    }
    const usedAt = this.#options.now();
    const isNoted = usedAt - notedAt < noteEveryMs;
    this.#remembered.set(tag, { usedAt, notedAt: isNoted ? notedAt : usedAt });
    if (!isNoted) this.#options.credentials.markKeyUsed(keyId);
  }
}

function isNameOf(credential: KeyCredential, user: string): boolean {
  if (user === credential.did) return true;
  return credential.handle !== null && normalizeHandle(user) === credential.handle;
}

/** Some type their key where the name belongs: what is no name is not passed on. */
function nameOnly(user: string): string {
  const handle = normalizeHandle(user);
  const isName = didSyntax.test(user) || (/^[a-z0-9.-]{3,253}$/.test(handle) && handle.includes('.'));
  return isName ? user : '';
}
