/**
 * One try for one recipient: find the hosts, speak to them in order, write down what happened.
 *
 * A host that does not get as far as MAIL FROM is followed by the next one; from there on its word is
 * the destination's. After the final dot no other host is tried, since the message may be delivered.
 */
import { isAscii } from 'node:buffer';
import { unlessAborted } from '../../appview/labels/unless-aborted.ts';
import type { AttemptRecord, Claim } from '../spool/spool.ts';
import { type ClientOptions, deliver, type Outcome, type Outgoing, type Target } from './client.ts';
import { classify } from './reply.ts';
import { type Route, type RouteOptions, routeOf } from './route.ts';

export type Tried = { kind: 'tried'; record: AttemptRecord } | { kind: 'aborted' };

export type AttemptOptions = {
  route: RouteOptions;
  client: ClientOptions;
  /** Port of the mail exchangers: 25. */
  port: number;
  now: () => number;
};

/** Bounds the time of one try to a domain of many dead hosts. */
const maxTargets = 8;
/** Of a peer's reply; what it needs to say fits, and a log stays a log. */
const maxReply = 2_000;

export async function attempt(
  claim: Claim,
  body: Buffer,
  options: AttemptOptions,
  stop: AbortSignal,
): Promise<Tried> {
  const startedAt = options.now();
  const route = await findRoute(claim.address, options.route, stop);
  if (route === 'aborted') return { kind: 'aborted' };
  const verdict =
    route.kind === 'hosts'
      ? await speak(targetsOf(route, options.port), outgoingOf(claim, body), options.client, stop)
      : withoutRoute(route);
  if (verdict === 'aborted') return { kind: 'aborted' };
  const at = options.now();
  return { kind: 'tried', record: { at, durationMs: at - startedAt, ...verdict } };
}

/** DNS questions cannot be called back; their answer is just not waited for. */
async function findRoute(
  address: string,
  options: RouteOptions,
  stop: AbortSignal,
): Promise<Route | 'aborted'> {
  try {
    return await unlessAborted(routeOf(address, options), stop);
  } catch (error) {
    if (stop.aborted) return 'aborted';
    throw error;
  }
}

type Verdict = Omit<AttemptRecord, 'at' | 'durationMs'>;

function withoutRoute(route: Exclude<Route, { kind: 'hosts' }>): Verdict {
  if (route.kind === 'unknown') {
    return { outcome: 'deferred', counted: false, status: '4.4.3', summary: route.summary };
  }
  const { status, summary } = route;
  const recipientInvalid = status.startsWith('5.1.');
  return { outcome: 'failed', counted: true, status, summary, recipientInvalid };
}

async function speak(
  targets: Target[],
  outgoing: Outgoing,
  client: ClientOptions,
  stop: AbortSignal,
): Promise<Verdict | 'aborted'> {
  let verdict: Verdict | undefined;
  for (const target of targets) {
    const outcome = await deliver(target, outgoing, client, stop);
    if (outcome.kind === 'aborted') return 'aborted';
    const latest = verdictOf(outcome, target);
    if (!endedBeforeMail(outcome)) return latest;
    // What a destination did says more than what our network could not do.
    if (!verdict || latest.counted) verdict = latest;
  }
  return verdict!;
}

function endedBeforeMail(outcome: Outcome): boolean {
  return (outcome.kind === 'refused' || outcome.kind === 'broken') && outcome.stage === 'session';
}

function verdictOf(outcome: Exclude<Outcome, { kind: 'aborted' }>, { name, address }: Target): Verdict {
  const peer = { host: name, address };
  switch (outcome.kind) {
    case 'delivered': {
      const said = { reply: outcome.reply.slice(0, maxReply), tls: outcome.tls };
      return { ...peer, ...said, outcome: 'delivered', counted: true, status: '2.0.0', summary: 'delivered' };
    }
    case 'unfit': {
      const { status, summary, tls } = outcome;
      return { ...peer, outcome: 'failed', counted: true, status, summary, tls };
    }
    case 'broken': {
      const { stage, reached, summary } = outcome;
      const status = stage === 'session' ? '4.4.1' : '4.4.2';
      return { ...peer, outcome: 'deferred', counted: reached, status, summary };
    }
    case 'refused':
      return { ...peer, ...refusal(outcome) };
  }
}

function refusal({ stage, reply, tls }: Extract<Outcome, { kind: 'refused' }>): Verdict {
  const { permanent, status, recipientInvalid } = classify(reply, stage);
  const what = stage === 'session' ? 'the session' : stage === 'data' ? 'the message' : `the ${stage}`;
  return {
    outcome: permanent ? 'failed' : 'deferred',
    counted: true,
    reply: reply.slice(0, maxReply),
    tls,
    status,
    summary: `the destination ${permanent ? 'refused' : 'put off'} ${what}`,
    recipientInvalid,
  };
}

function targetsOf({ hosts }: Extract<Route, { kind: 'hosts' }>, port: number): Target[] {
  return hosts
    .flatMap(({ name, addresses }) => addresses.map((address) => ({ name, address, port })))
    .slice(0, maxTargets);
}

function outgoingOf(claim: Claim, body: Buffer): Outgoing {
  const message = Buffer.concat([claim.signatures, claim.prefix, body]);
  const eightBit = !isAscii(message);
  const end = message.indexOf('\r\n\r\n');
  const utf8Header = eightBit && !isAscii(end === -1 ? message : message.subarray(0, end));
  return { from: claim.returnPath, to: claim.address, message, utf8Header, eightBit };
}
