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
import { Authenticator, type AuthenticatorOptions } from '../../node/members/authenticate.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Admission } from '../../node/relay/admission.ts';
import { AdmissionMemory, commitsOf, rememberAll } from '../../node/relay/admission-memory.ts';
import { ByteBudget } from '../../node/relay/byte-budget.ts';
import { ConnectionCaps } from '../../node/relay/connection-caps.ts';
import { Intake, type IntakeOptions, type MessageSigner, type Queue } from '../../node/relay/intake.ts';
import { ReturnPaths } from '../../node/relay/return-path.ts';
import { Signer, type SigningKey } from '../../node/relay/signing.ts';
import { type SubmissionLimits, SubmissionServer } from '../../node/relay/submission.ts';
import { UnsubscribeLinks } from '../../node/relay/unsubscribe-links.ts';
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
  memoryPerMember?: number;
  /** Connections at once. */
  connections?: ConstructorParameters<typeof ConnectionCaps>[0];
  proxies?: string[];
  /** Wrong logins are answered at once unless a test says otherwise. */
  auth?: Partial<Pick<AuthenticatorOptions, 'throttle' | 'wait' | 'authFailed'>>;
  exemptPerRecipient?: number;
  intake?: Partial<Pick<IntakeOptions, 'bounceNotice' | 'attempted'>>;
  /** In place of the real ones, to see what happens when they fail. */
  queue?: (spool: Spool) => Omit<Queue, 'acceptBatch'>;
  signer?: (signer: Signer) => MessageSigner;
};

export const wideOpen: CapsPolicy = {
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
  const signer = Signer.start({
    memberKeys: (domain) => members.dkimKeys(domain),
    ...{ poolKey, now, log, expireMs: 4 * 86_400_000 },
  });
  const suppressions = new Suppressions({ db, now });
  const commits = commitsOf(join(dir, 'node.db'));
  const remembered = rememberAll(new AdmissionMemory({ version: commits.version }), {
    ...{ members, suppressions, standingOf: standings({ db, policy: o.caps ?? wideOpen, now }) },
  });
  const { directory, credentials, standingOf } = remembered;
  const links = new UnsubscribeLinks({ key: randomBytes(32), publicUrl: 'https://harbor.test' });
  const intake = new Intake({
    admission: new Admission({
      ...{ directory, standingOf, suppressions: remembered.suppressions, poolDomain },
      ...(o.exemptPerRecipient !== undefined && { exemptPerRecipient: o.exemptPerRecipient }),
      ...(o.limits?.maxMessageBytes !== undefined && { maxMessageBytes: o.limits.maxMessageBytes }),
    }),
    unsubscribeLink: (of) => links.of(of),
    bounceNotice: async () => undefined,
    signer: o.signer?.(signer) ?? signer,
    queue: o.queue ? { acceptBatch: (batch) => spool.acceptBatch(batch), ...o.queue(spool) } : spool,
    returnPaths: new ReturnPaths({ key: keys.verp, poolDomain }),
    hostname: poolDomain,
    ...{ poolDomain, now, log, count },
    ...o.intake,
  });
  const authenticator = new Authenticator({
    ...{ credentials, now, count, bcryptCost: 4 },
    ...{ wait: async () => undefined, ...o.auth },
  });
  const caps = new ConnectionCaps(o.connections);
  const budget = new ByteBudget(o.memoryBytes ?? 64 * 1024 * 1024, o.memoryPerMember);
  const listener = (implicitTls: boolean) =>
    new SubmissionServer({
      listen: { host: '127.0.0.1', port: 0 },
      hostname: poolDomain,
      limits: o.limits ?? {},
      proxies: o.proxies ?? [],
      ...{ implicitTls, certificate, authenticator, intake, budget, caps, log, count },
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
    ...{ reefKey, orchardKey, log, now, keys, signer, suppressions, certificate, budget, caps },

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
      const claims = await spool.due({ limit: 1000, now: now() + 1, exceptSites: [], exceptMembers: [] });
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
      await signer.close();
      commits.close();
      db.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
