/**
 * The composition of the private channel between cooperatives, and of suspensions that are made public.
 *
 * Belongs to node.ts: it stands where the labeler does, since its service and key are what peers know us by.
 */
import { join } from 'node:path';
import type { AppView } from '../appview/appview.ts';
import { openDatabase } from '../appview/database.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import type { Identities } from '../appview/identity/did.ts';
import type { SignalFigures } from '../appview/labels/signal.ts';
import { Signals } from '../appview/listing/signals.ts';
import { ledgerMigrations } from '../appview/migrations.ts';
import type { Composing } from './composing.ts';
import { isTrusted, type PeerBook } from './cooperative/peer-book.ts';
import type { Notice } from './enforcement/operator-notices.ts';
import { Rates } from './enforcement/rates.ts';
import type { IssuedLabels } from './labeler/issued-labels.ts';
import type { AttestationIndex } from './labeler/labeler.ts';
import { recordAlone } from './labels.ts';
import type { Mail } from './mail.ts';
import type { PrivateChannels } from './peers.ts';
import { IssuedSignals } from './reputation/issued-signals.ts';
import { PublishedSuspensions } from './reputation/published-suspensions.ts';
import { SignalReader, type SignalReaderOptions } from './reputation/reader.ts';
import { Callers } from './reputation/service-token.ts';
import { telling } from './reputation/telling.ts';
import { XrpcChannel } from './reputation/xrpc-channel.ts';
import type { Membership } from './state.ts';
import { untilDone } from './until-done.ts';
import type { Xrpc } from './web/xrpc.ts';

type Parts = {
  state: Membership;
  book: PeerBook;
  identities: Identities;
  rules: AddressRules;
  xrpc: Xrpc;
  issued: IssuedLabels;
  attestations: Pick<AttestationIndex, 'of'>;
  /** Where labels are read: it knows which of a peer's keys is trusted, and for whom a peer vouches. */
  appview: AppView | undefined;
  /** Where mail is relayed: there standings change. */
  mail: Mail | undefined;
  /** The operator. */
  tell: (notice: Notice) => void;
};

export type Reputation = {
  /** Reads the channels of peers from now on. */
  start(): Promise<void>;
  published: PublishedSuspensions;
  channels: PrivateChannels;
};

/** Served from now on to peers whom we guarantee or endorse. */
export async function openReputation(around: Composing, parts: Parts): Promise<Reputation> {
  const o = { ...around, ...parts };
  const { config, state, stops, log, count, now, book, mail } = o;
  const ledgerDb = openDatabase(join(config.stateDir, 'ledger.db'), ledgerMigrations, {
    synchronous: 'FULL',
  });
  stops.store('ledger.db, signals', () => ledgerDb.close());
  const signals = new Signals({ db: ledgerDb, now });
  const record = mail?.record ?? recordAlone(state, now);
  const channel = channelOf(o);
  const issuedLog = issuedSignals(o);
  await channel.publish(issuedLog);
  const published = new PublishedSuspensions({ db: state.db, issued: o.issued, record, now, log });
  const tellSignals = telling({
    ...{ db: state.db, signals, record, log, count },
    isHeard: (src) => isServed(book, src),
    attestationsOf: (did) => o.attestations.of(did).map(({ rkey }) => rkey),
  });
  const reader = readerOf(o, { channel, signals, onStored: tellSignals });
  const follow = untilDone({
    work: () => reader.follow(book.all().flatMap((peer) => (isTrusted(peer) ? peer.did : []))),
    onFailure: (error) => log.error({ err: error }, 'peers cannot be looked up; trying again'),
  });
  // After the commit of the act, which another part of it may still undo.
  const unfollow = book.onChange(() => setImmediate(follow));
  mail?.onEvents((events) => {
    if (!events.some(({ type }) => type === 'staff_act')) return;
    void issuedLog.publishDue();
    published.examine(events);
  });
  stops.work('private channel', async () => {
    unfollow();
    follow.stop();
    tellSignals.stop();
    await Promise.all([reader.stop(), issuedLog.stop(), published.stop()]);
  });
  return {
    published,
    channels: {
      release: (peer) => reader.release(peer),
      status: (peer) => (isServed(book, peer) ? signals.peer(peer) : undefined),
    },
    start: async () => {
      issuedLog.start();
      await published.start();
      tellSignals();
      follow();
    },
  };
}

function readerOf(
  o: Composing & Parts,
  parts: Pick<SignalReaderOptions, 'channel' | 'signals' | 'onStored'>,
): SignalReader {
  const { identities, appview, tell, log, count, now } = o;
  return new SignalReader({
    ...{ ...parts, log, count, now },
    keyOf: (peer) => keyOf(o, peer),
    forgetKey: (peer) => identities.forget(peer),
    vouchedBy: (peer) => appview?.vouchedBy(peer) ?? 0,
    onQuarantine: (peer, reason) => tell(quarantineNotice(peer, reason)),
  });
}

function channelOf(o: Composing & Parts): XrpcChannel {
  const { config, state, book, identities, rules, xrpc, count, now } = o;
  const serves = (did: string) => isServed(book, did);
  const callers = new Callers({
    ...{ did: config.did, serves, now, count },
    keyOf: (did) => knownKeyOf(o, did),
    refreshKey: (did) => void identities.resolve(did, { refresh: true }).catch(() => undefined),
  });
  return new XrpcChannel({
    ...{ did: config.did, key: () => state.keys.label, xrpc, callers, serves, rules, now },
    endpointOf: async (peer) => {
      const { labeler } = await identities.resolve(peer);
      if (!labeler) throw new Error(`${peer} has no service #atproto_labeler`);
      return labeler;
    },
  });
}

function issuedSignals({ config, state, log, count, now }: Composing & Parts): IssuedSignals {
  const rates = new Rates({ db: state.db, now });
  return new IssuedSignals({
    ...{ db: state.db, did: config.did, key: () => state.keys.label, log, count, now },
    domainsOf: (did) => state.members.domainsOf(did).map(({ name }) => name),
    figuresOf: (did) => (['24h', '7d', '30d'] as const).map((window) => figuresOf(rates, did, window)),
  });
}

function figuresOf(rates: Rates, did: string, window: '24h' | '7d' | '30d'): SignalFigures {
  const { sends, recipientInvalid, complaints } = rates.of({ did, window });
  return { window, sends, bounces: recipientInvalid, complaints };
}

/** At once. What is stale is asked for behind the answer; until then the key that we trusted is the peer's. */
function knownKeyOf({ identities, appview }: Composing & Parts, peer: string): string | undefined {
  void identities.resolve(peer).catch(() => undefined);
  const trusted = appview?.labels.states.trustedKey(peer);
  const { labelKey } = identities.known(peer) ?? { labelKey: trusted };
  return trusted === undefined || trusted === labelKey ? labelKey : undefined;
}

/** A key that changed waits until the labels that it signs count (appview/labels/issuer-key.ts). */
async function keyOf({ identities, appview }: Composing & Parts, peer: string): Promise<string | undefined> {
  const { labelKey } = await identities.resolve(peer);
  const trusted = appview?.labels.states.trustedKey(peer);
  return trusted === undefined || trusted === labelKey ? labelKey : undefined;
}

function isServed(book: PeerBook, did: string): boolean {
  const peer = book.get(did);
  return peer !== undefined && isTrusted(peer);
}

function quarantineNotice(peer: string, reason: string): Notice {
  return {
    subject: `The private channel of ${peer} is quarantined`,
    text: `The private channel of ${peer} is quarantined: ${reason}.\n\nIts signals hold nobody and nothing new is read until you end it: atmos peer release ${peer}\n`,
  };
}
