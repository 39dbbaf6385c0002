/**
 * A relay from the listener to the real spool, with members, in a temporary folder.
 *
 * `reef.test` and `news.reef.test` are Reef's, `orchard.test` is Orchard's. Nothing delivers: what was
 * accepted is looked at in the spool.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTransport, type SendMailOptions } from 'nodemailer';
import { pino } from 'pino';
import { generate } from 'selfsigned';
import { openDatabase } from '../../appview/database.ts';
import { ensureKeys } from '../../node/cooperative/keys.ts';
import { type CapsPolicy, standings } from '../../node/enforcement/standing.ts';
import { Authenticator } from '../../node/members/authenticate.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Admission } from '../../node/relay/admission.ts';
import { ByteBudget } from '../../node/relay/byte-budget.ts';
import { Intake, type MessageSigner, type Queue } from '../../node/relay/intake.ts';
import { ReturnPaths } from '../../node/relay/return-path.ts';
import { Signer, type SigningKey } from '../../node/relay/signing.ts';
import { type SubmissionLimits, SubmissionServer } from '../../node/relay/submission.ts';
import { Spool } from '../../node/spool/spool.ts';

export const reef = 'did:plc:reefreefreefreefreefreef';
export const orchard = 'did:plc:orchardorchardorchardorc';
export const poolDomain = 'harbor.test';

export type World = Awaited<ReturnType<typeof openWorld>>;

export type WorldOptions = {
  now?: () => number;
  caps?: CapsPolicy;
  limits?: Partial<SubmissionLimits>;
  memoryBytes?: number;
  /** In place of the real ones, to see what happens when they fail. */
  queue?: (spool: Spool) => Queue;
  signer?: (signer: Signer) => MessageSigner;
};

const wideOpen: CapsPolicy = {
  warmingDays: 0,
  warming: [],
  tiers: { standard: { perHour: 100_000, perDay: 100_000 } },
};

export async function openWorld(o: WorldOptions = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-submission-'));
  const now = o.now ?? Date.now;
  const log = pino({ level: 'silent' });
  const counted: string[] = [];
  const count = (what: string, reason?: string): void => {
    counted.push(reason === undefined ? what : `${what} ${reason}`);
  };
  const keys = await ensureKeys(join(dir, 'keys'));
  const made = await generate([{ name: 'commonName', value: poolDomain }], { algorithm: 'sha256' });
  const certificate = { key: made.private, cert: made.cert };
  const db = openDatabase(join(dir, 'node.db'), nodeMigrations, { synchronous: 'NORMAL' });
  const members = new Members({
    ...{ db, now, poolDomain, seal: new Seal(randomBytes(32)), mailHost: poolDomain, bcryptCost: 4 },
  });
  await members.enrol({
    did: reef,
    handle: 'reef.test',
    domains: ['reef.test', 'news.reef.test'],
    relay: true,
  });
  await members.enrol({ did: orchard, handle: 'orchard.test', domains: ['orchard.test'], relay: true });
  const { key: reefKey } = await members.issueApiKey(reef, 'test');
  const { key: orchardKey } = await members.issueApiKey(orchard, 'test');
  const spool = await Spool.open({ dir, log, now });
  const poolKey: SigningKey = {
    domain: poolDomain,
    selector: 'pool',
    algorithm: 'rsa',
    privateKey: keys.pool.privateKey,
  };
  const signer = new Signer({ memberKeys: (domain) => members.dkimKeys(domain), poolKey, now });
  const intake = new Intake({
    admission: new Admission({
      directory: members,
      standingOf: standings({ db, policy: o.caps ?? wideOpen, now }),
    }),
    signer: o.signer?.(signer) ?? signer,
    queue: o.queue?.(spool) ?? spool,
    returnPaths: new ReturnPaths({ key: keys.verp, poolDomain }),
    hostname: poolDomain,
    ...{ poolDomain, now, log, count },
  });
  const authenticator = new Authenticator({ credentials: members, now, count, bcryptCost: 4 });
  const listener = (implicitTls: boolean) =>
    new SubmissionServer({
      listen: { host: '127.0.0.1', port: 0 },
      hostname: poolDomain,
      budget: new ByteBudget(o.memoryBytes ?? 64 * 1024 * 1024),
      limits: o.limits ?? {},
      ...{ implicitTls, certificate, authenticator, intake, log, count },
    });
  const servers = [listener(false), listener(true)] as const;
  const [starttls, implicit] = [await servers[0].start(), await servers[1].start()];

  /** A nodemailer client; on the STARTTLS port, which it refuses to use without TLS. */
  const client = (auth: { user: string; pass: string }, via: 'starttls' | 'implicit' = 'starttls') =>
    createTransport({
      ...(via === 'starttls' ? starttls : implicit),
      secure: via === 'implicit',
      requireTLS: true,
      tls: { rejectUnauthorized: false },
      auth,
    });

  return {
    ...{ dir, db, members, spool, intake, authenticator, counted, servers, starttls, implicit, client },
    ...{ reefKey, orchardKey, log, now, keys },

    /** As Reef. */
    send: async (mail: SendMailOptions) => {
      const transport = client({ user: reef, pass: reefKey });
      try {
        return await transport.sendMail(mail);
      } finally {
        transport.close();
      }
    },

    /** Every recipient in the spool, with the message as it would leave. */
    accepted: async () => {
      const claims = await spool.due(1000, now() + 1);
      const whole = claims.map(async (claim) => {
        const body = (await spool.body(claim.queueId))!;
        return { ...claim, body, message: Buffer.concat([claim.signatures, claim.prefix, body]) };
      });
      await spool.release(claims.map(({ recipientId }) => recipientId));
      return Promise.all(whole);
    },

    close: async () => {
      await Promise.all(servers.map((server) => server.stop()));
      await spool.close();
      db.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
