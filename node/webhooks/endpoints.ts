/**
 * Where members want to be told: addresses, their secrets, and whether they answer.
 *
 * Promise: an address that is not public is refused here already (and again at each connect, by the fetch). A
 * secret rests sealed, and is shown once. After a change of secret the old one signs too for a day.
 */
import { randomBytes } from 'node:crypto';
import type { Database } from '../../appview/database.ts';
import type { AddressRules } from '../../appview/identity/address.ts';
import { checkFetchable, FetchFailed, FetchRefused } from '../../appview/identity/fetch.ts';
import type { Seal } from '../members/seal.ts';
import type { ToldType } from './payload.ts';
import { newSecret } from './signature.ts';

export type Webhook = {
  id: string;
  did: string;
  url: string;
  description: string;
  /** What it wants; empty: everything. */
  types: readonly ToldType[];
  /** Unix ms, as all times here. */
  createdAt: number;
  /** First failure after the last success. */
  failingSince: number | null;
  /** Nothing is sent and nothing queued while it is disabled. */
  disabledAt: number | null;
  disabledReason: string | null;
};

export type WebhookChange = {
  url?: string | undefined;
  description?: string | undefined;
  types?: readonly ToldType[] | undefined;
  enabled?: boolean | undefined;
};

export type EndpointsOptions = {
  /** node.db. */
  db: Database.Database;
  seal: Seal;
  /** The same as of the fetch that sends. */
  rules: AddressRules;
  now: () => number;
  /** Default 5. */
  perMember?: number;
  /** How long an old secret still signs. Default 24 h. */
  overlapMs?: number;
};

export class Endpoints {
  readonly #options: Required<EndpointsOptions>;
  readonly #sql: ReturnType<typeof prepareAll>;
  /** All of them: the projection asks for every event of every member. */
  readonly #byId = new Map<string, Webhook>();
  readonly #byMember = new Map<string, Webhook[]>();

  constructor(options: EndpointsOptions) {
    this.#options = { perMember: 5, overlapMs: 24 * 3_600_000, ...options };
    this.#sql = prepareAll(options.db);
    for (const row of this.#sql.all.all() as Row[]) this.#remember(toWebhook(row));
  }

  /** Oldest first. */
  of(did: string): readonly Webhook[] {
    return this.#byMember.get(did) ?? [];
  }

  get(id: string): Webhook | undefined {
    return this.#byId.get(id);
  }

  get limit(): number {
    return this.#options.perMember;
  }

  /** @returns what is wrong with the address, for the member */
  async refusal(url: string): Promise<string | undefined> {
    try {
      await checkFetchable(url, this.#options.rules);
      return undefined;
    } catch (error) {
      if (error instanceof FetchRefused || error instanceof FetchFailed) return `${error.message}.`;
      throw error;
    }
  }

  /** @returns undefined when the member has as many as it may. The secret is told here and never again */
  create(o: { did: string; url: string; description: string; types: readonly ToldType[] }) {
    if (this.of(o.did).length >= this.#options.perMember) return undefined;
    const id = `wh_${randomBytes(12).toString('base64url')}`;
    const secret = newSecret();
    const createdAt = this.#options.now();
    this.#sql.insert.run(
      ...[id, o.did, o.url, o.description, JSON.stringify(o.types)],
      this.#sealed(id, secret),
      createdAt,
    );
    const webhook = { id, ...o, createdAt, failingSince: null, disabledAt: null, disabledReason: null };
    this.#remember(webhook);
    return { webhook, secret };
  }

  /** Enabled again, it begins without a history of failures. */
  change(webhook: Webhook, { enabled, ...change }: WebhookChange): Webhook {
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
    const state =
      enabled === undefined
        ? {}
        : enabled
          ? { failingSince: null, disabledAt: null, disabledReason: null }
          : { disabledAt: this.#options.now(), disabledReason: 'disabled by the member' };
    return this.#keep({ ...webhook, ...given, ...state });
  }

  /** Its deliveries go with it. */
  remove({ id, did }: Webhook): void {
    this.#sql.remove.run(id);
    this.#byId.delete(id);
    const left = this.of(did).filter((one) => one.id !== id);
    if (left.length > 0) this.#byMember.set(did, left);
    else this.#byMember.delete(did);
  }

  /** @returns the new secret, and until when the old one signs too */
  rotate({ id }: Webhook): { secret: string; oldSecretUntil: number } {
    const secret = newSecret();
    const oldSecretUntil = this.#options.now() + this.#options.overlapMs;
    this.#sql.rotate.run(oldSecretUntil, this.#sealed(id, secret), id);
    return { secret, oldSecretUntil };
  }

  /** The current one first. @throws CorruptState when they do not open */
  secretsOf({ id }: Webhook): string[] {
    const row = this.#sql.secrets.get(id) as {
      secret: Uint8Array;
      old: Uint8Array | null;
      until: number | null;
    };
    const secrets = [this.#opened(id, row.secret)];
    if (row.old && row.until !== null && row.until > this.#options.now())
      secrets.push(this.#opened(id, row.old));
    return secrets;
  }

  /** A try succeeded or failed. Writes only what changes. */
  noteHealth(id: string, isHealthy: boolean): void {
    const webhook = this.#byId.get(id);
    if (!webhook || isHealthy === (webhook.failingSince === null)) return;
    this.#keep({ ...webhook, failingSince: isHealthy ? null : this.#options.now() });
  }

  disable(webhook: Webhook, reason: string): Webhook {
    return this.#keep({ ...webhook, disabledAt: this.#options.now(), disabledReason: reason });
  }

  /** After a transaction that was rolled back: what node.db says. */
  reload(id: string): void {
    const row = this.#sql.one.get(id) as Row | undefined;
    if (row) this.#remember(toWebhook(row));
  }

  #keep(webhook: Webhook): Webhook {
    const { id, url, description, types, failingSince, disabledAt, disabledReason } = webhook;
    this.#sql.update.run(
      ...[url, description, JSON.stringify(types), failingSince, disabledAt, disabledReason, id],
    );
    this.#remember(webhook);
    return webhook;
  }

  #remember(webhook: Webhook): void {
    this.#byId.set(webhook.id, webhook);
    const others = this.of(webhook.did).filter(({ id }) => id !== webhook.id);
    const all = [...others, webhook].sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
    this.#byMember.set(webhook.did, all);
  }

  #sealed(id: string, secret: string): Buffer {
    return this.#options.seal.close(Buffer.from(secret), `webhook:${id}`);
  }

  #opened(id: string, sealed: Uint8Array): string {
    return this.#options.seal.open(Buffer.from(sealed), `webhook:${id}`).toString();
  }
}

type Row = Omit<Webhook, 'types'> & { types: string };

function toWebhook(row: Row): Webhook {
  return { ...row, types: JSON.parse(row.types) as ToldType[] };
}

function prepareAll(db: Database.Database) {
  const columns = `id, did, url, description, types, created_at AS createdAt, failing_since AS failingSince,
    disabled_at AS disabledAt, disabled_reason AS disabledReason`;
  return {
    all: db.prepare(`SELECT ${columns} FROM webhook ORDER BY created_at, id`),
    one: db.prepare(`SELECT ${columns} FROM webhook WHERE id = ?`),
    insert: db.prepare(
      'INSERT INTO webhook (id, did, url, description, types, secret, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)',
    ),
    update: db.prepare(
      `UPDATE webhook SET url = ?, description = ?, types = ?, failing_since = ?, disabled_at = ?,
         disabled_reason = ? WHERE id = ?`,
    ),
    remove: db.prepare('DELETE FROM webhook WHERE id = ?'),
    rotate: db.prepare(
      'UPDATE webhook SET old_secret = secret, old_secret_until = ?, secret = ? WHERE id = ?',
    ),
    secrets: db.prepare(
      'SELECT secret, old_secret AS old, old_secret_until AS until FROM webhook WHERE id = ?',
    ),
  };
}
