/**
 * The classes of a message's way, put together without AUTH, TLS and signatures, for table 2.
 *
 * `node bare-node.ts FOLDER SINK_PORT`; sends the port on which it takes mail over IPC. Everything else is as
 * in the node: admission, header fields, the spool and its sync, routing, shaping, events in the spool.
 */
import { pino } from 'pino';
import { Deliverer } from '../../../node/delivery/deliverer.ts';
import { Admission } from '../../../node/relay/admission.ts';
import { ByteBudget } from '../../../node/relay/byte-budget.ts';
import { ConnectionCaps } from '../../../node/relay/connection-caps.ts';
import { Intake } from '../../../node/relay/intake.ts';
import { ReturnPaths } from '../../../node/relay/return-path.ts';
import { SubmissionServer } from '../../../node/relay/submission.ts';
import type { Resolver } from '../../../node/resolver.ts';
import { Spool } from '../../../node/spool/spool.ts';
import { poolDomain, senderDomain } from './system.ts';

const [dir, sinkPort] = process.argv.slice(2);
const did = 'did:plc:benchbenchbenchbenchbenc';
const plenty = 1_000_000_000;
const hostname = `mail.${poolDomain}`;
const log = pino({ level: 'warn' });
const now = Date.now;
const count = () => undefined;

const none = async () => ({ kind: 'none', server: 'none' }) as const;
/** Every host is this machine. */
const resolver: Resolver = {
  ...{ txt: none, mx: none, aaaa: none },
  a: async () => ({ kind: 'found', records: ['127.0.0.1'], server: 'none' }),
};

const spool = await Spool.open({ dir: dir!, log });
const deliverer = new Deliverer({
  ...{ spool, resolver, hostname, port: Number(sinkPort), loopbackOnly: true, log, count, now },
  tls: {
    demandsFor: async (_domain, { hosts }) => ({
      kind: 'hosts',
      hosts: hosts.map((host) => ({ host, demand: { kind: 'opportunistic' } })),
    }),
  },
  dsn: { from: `postmaster@${poolDomain}`, recipientFor: () => undefined, seal: async () => Buffer.alloc(0) },
});
const admission = new Admission({
  directory: {
    get: () => ({ relay: true, domains: [{ name: senderDomain }] }),
    domain: () => ({ did, defaultCategory: 'transactional' }),
  },
  standingOf: () => ({
    ...{ did, state: 'active', tier: 'standard', caps: { perHour: plenty, perDay: plenty } },
    ...{ reason: null, until: null, by: 'automatic' },
  }),
  suppressions: { find: () => undefined },
  poolDomain,
});
const intake = new Intake({
  ...{ admission, queue: spool, hostname, poolDomain, log, count, now },
  signer: {
    sign: async ({ prefixes }) => ({
      kind: 'signed',
      signatures: prefixes.map(() => Buffer.alloc(0)),
      signedAt: now(),
    }),
  },
  returnPaths: new ReturnPaths({ key: Buffer.alloc(32, 1), poolDomain }),
  unsubscribeLink: () => `http://127.0.0.1/`,
  bounceNotice: async () => undefined,
});
const server = new SubmissionServer({
  ...{ listen: { host: '127.0.0.1', port: 0 }, implicitTls: false, hostname, intake, log, count },
  certificate: { key: '', cert: '' },
  authenticator: { authenticate: async () => ({ kind: 'failed' }), isLive: () => true },
  everyone: { did, keyId: 'bench', defaultCategory: null },
  budget: new ByteBudget(64 * 1024 * 1024),
  caps: new ConnectionCaps({ perAddress: 1000, perMember: 1000 }),
});
deliverer.start();
const { port } = await server.start();
process.send?.(port);

let isStopping = false;
const stop = async () => {
  if (isStopping) return;
  isStopping = true;
  await server.stop();
  await deliverer.stop();
  await spool.close();
  process.exit(0);
};
process
  .on('SIGTERM', stop)
  .on('disconnect', stop)
  .on('SIGINT', () => undefined);
