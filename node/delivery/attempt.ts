/**
 * One try for one recipient: speak to the hosts in order, say what happened and what it means.
 *
 * A host that does not get as far as MAIL FROM is followed by the next one; from there on its word is
 * the destination's. After the final dot no other host is tried, since the message may be delivered.
 *
 * A session is used again for messages to the same place. One that ended while it was idle shows that by
 * failing before its first reply to a new transaction: then the message goes over a fresh one, uncounted.
 */
import { isAscii } from 'node:buffer';
import type { AttemptRecord, Claim } from '../spool/spool.ts';
import type { DsnWish, Outcome, Outgoing } from './client.ts';
import type { Place, Site } from './destinations.ts';
import type { PooledSession, SessionPool } from './pool.ts';
import { classify } from './reply.ts';
import type { Opened } from './session.ts';
import { familyOf } from './sources.ts';
import type { Unreachable } from './unreachable.ts';

/** `during-attempt`: MAIL FROM is on its way. `after-reply`: the peer has it. */
export type CrashPoint = 'during-attempt' | 'after-reply' | 'before-mark';

export type Wire = {
  open(place: Place, source: string | undefined, stop: AbortSignal): Promise<Opened>;
  pool: SessionPool;
  unreachable: Unreachable;
  reached: (point: CrashPoint) => void;
};

export type Verdict = Omit<AttemptRecord, 'at' | 'durationMs'>;

/** What shaping and sources learn from it. */
export type Heard =
  | { kind: 'delivered' | 'answered' | 'nothing' }
  | { kind: 'slow-down' | 'failed'; reply: string };

export type Tried =
  | {
      kind: 'tried';
      verdict: Verdict;
      heard: Heard;
      /** The reply blames the address that we came from. */
      blamed: boolean;
      /** The peer reports success itself (RFC 3461). */
      relayed: boolean;
      /** Messages after which the peer wanted no more over one connection. */
      perSession?: number;
    }
  | { kind: 'aborted' };

export type Try = {
  outgoing: Outgoing;
  site: Site;
  source: string | undefined;
  /** Messages over one connection. */
  perSession: number;
};

/** Of a peer's reply; what it needs to say fits, and a log stays a log. */
const maxReply = 2_000;
const perSessionWords =
  /too many (messages|mails|transactions)|per (session|connection)|in (this|one|a single) (session|connection)/i;

export async function attempt(one: Try, wire: Wire, stop: AbortSignal): Promise<Tried> {
  return new Attempt(one, wire, stop).run();
}

class Attempt {
  readonly #try: Try;
  readonly #wire: Wire;
  readonly #stop: AbortSignal;
  #heard: Heard = { kind: 'nothing' };
  #blamed = false;
  #perSession: number | undefined;

  constructor(one: Try, wire: Wire, stop: AbortSignal) {
    this.#try = one;
    this.#wire = wire;
    this.#stop = stop;
  }

  async run(): Promise<Tried> {
    const { site, source } = this.#try;
    const family = source === undefined ? undefined : familyOf(source);
    let verdict: Verdict | undefined;
    for (const place of site.places) {
      if (family !== undefined && familyOf(place.address) !== family) continue;
      const outcome = await this.#speak(place);
      if (outcome.kind === 'aborted') return outcome;
      const latest = this.#judge(outcome, place);
      if (!mayGoOn(outcome)) return this.#tried(latest, outcome);
      // What a destination did says more than what our network could not do.
      if (!verdict || latest.counted) verdict = latest;
    }
    return this.#tried(verdict ?? nowhere);
  }

  #tried(verdict: Verdict, outcome?: Outcome): Tried {
    const { site, source } = this.#try;
    const relayed = outcome?.kind === 'delivered' && outcome.relayed;
    const from = { site: site.site, ...(source !== undefined && { source }) };
    const learned = this.#perSession === undefined ? {} : { perSession: this.#perSession };
    const heard = { heard: this.#heard, blamed: this.#blamed, relayed, ...learned };
    return { kind: 'tried', verdict: { ...verdict, ...from }, ...heard };
  }

  async #speak(place: Place): Promise<Outcome> {
    const { source } = this.#try;
    const { pool, unreachable, open } = this.#wire;
    const key = `${place.key} ${source ?? ''}`;
    const idle = pool.take(key);
    if (idle) {
      const outcome = await this.#send(idle, key);
      if (!isStale(outcome)) return outcome;
      if (outcome.kind === 'refused' && perSessionWords.test(outcome.reply))
        this.#perSession = idle.served - 1;
    }
    const found = unreachable.find(key);
    if (found) return { kind: 'broken', stage: 'session', reached: true, ...found };
    const opened = await open(place, source, this.#stop);
    if (opened.kind === 'open') {
      unreachable.remove(key);
      return this.#send({ session: opened.session, served: 0 }, key);
    }
    if (opened.kind === 'broken' && opened.reached) unreachable.add(key, opened);
    this.#hearSession(opened);
    return opened;
  }

  async #send(pooled: PooledSession, key: string): Promise<Outcome> {
    const { pool, reached } = this.#wire;
    const { session } = pooled;
    const sending = session.deliver(this.#try.outgoing, this.#stop);
    reached('during-attempt');
    const outcome = await sending;
    if (outcome.kind === 'delivered') reached('after-reply');
    pooled.served += 1;
    // RFC 5321 §3.8: after 421 the peer closes, so we need not wait for that.
    const isOver = outcome.kind === 'refused' && outcome.reply.startsWith('421');
    if (!isOver && pooled.served < this.#try.perSession) pool.give(key, pooled);
    else session.close();
    return outcome;
  }

  #hearSession(outcome: Exclude<Opened, { kind: 'open' }>): void {
    if (outcome.kind === 'aborted') return;
    if (outcome.kind === 'broken') {
      if (outcome.reached && this.#heard.kind === 'nothing')
        this.#heard = { kind: 'failed', reply: outcome.summary };
      return;
    }
    // Asked for less at one door, it is asked for less at all of them.
    const { slowDown, cause } = classify(outcome.reply, 'session');
    this.#heard = { kind: slowDown ? 'slow-down' : 'failed', reply: outcome.reply };
    this.#blamed ||= cause === 'reputation';
  }

  #judge(outcome: Exclude<Outcome, { kind: 'aborted' }>, { name, address }: Place): Verdict {
    const peer = { host: name, address };
    switch (outcome.kind) {
      case 'delivered': {
        if (this.#heard.kind !== 'slow-down') this.#heard = { kind: 'delivered' };
        const said = { reply: outcome.reply.slice(0, maxReply), tls: outcome.tls };
        return {
          ...peer,
          ...said,
          outcome: 'delivered',
          counted: true,
          status: '2.0.0',
          summary: 'delivered',
        };
      }
      case 'unfit': {
        this.#answered();
        const { status, summary, tls } = outcome;
        const isFinal = status.startsWith('5');
        return { ...peer, outcome: isFinal ? 'failed' : 'deferred', counted: true, status, summary, tls };
      }
      case 'broken':
        return { ...peer, ...this.#breakage(outcome) };
      case 'refused':
        return { ...peer, ...this.#refusal(outcome) };
    }
  }

  #breakage({ stage, reached, summary, status: known }: Extract<Outcome, { kind: 'broken' }>): Verdict {
    const status = known ?? (stage === 'session' ? '4.4.1' : '4.4.2');
    if (stage !== 'session' && reached) this.#heard = { kind: 'failed', reply: summary };
    return { outcome: 'deferred', counted: reached, status, summary };
  }

  #refusal({ stage, reply, tls }: Extract<Outcome, { kind: 'refused' }>): Verdict {
    const { permanent, status, recipientInvalid, cause, slowDown } = classify(reply, stage);
    if (stage !== 'session') {
      if (slowDown) this.#heard = { kind: 'slow-down', reply };
      else this.#answered();
      this.#blamed ||= cause === 'reputation';
    }
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

  #answered(): void {
    if (this.#heard.kind !== 'slow-down') this.#heard = { kind: 'answered' };
  }
}

/** The route has addresses, and none that our own can speak to. */
const nowhere: Verdict = {
  outcome: 'deferred',
  counted: false,
  status: '4.4.4',
  summary: 'no address of ours can speak to those of the destination',
};

/** Nothing was said of the message, or nothing that holds for another exchanger (RFC 8689 §4.2.1). */
function mayGoOn(outcome: Outcome): boolean {
  if (outcome.kind === 'unfit') return outcome.status === '5.7.30';
  return (outcome.kind === 'refused' || outcome.kind === 'broken') && outcome.stage === 'session';
}

/** Ended, or ending, since before this message: nothing of it was heard. */
function isStale(outcome: Outcome): boolean {
  if (outcome.kind === 'broken') return outcome.stage === 'session' || outcome.stage === 'mail';
  return outcome.kind === 'refused' && outcome.stage === 'mail' && outcome.reply.startsWith('421');
}

/** @param signatures those to go out with, the claim's or newer ones */
export function outgoingOf(claim: Claim, signatures: Buffer, body: Buffer): Outgoing {
  const message = inOnePiece([signatures, claim.prefix, body]);
  const eightBit = !isAscii(message);
  const end = eightBit ? message.indexOf('\r\n\r\n') : 0;
  const utf8Header = eightBit && !isAscii(end === -1 ? message : message.subarray(0, end));
  const { returnPath: from, address: to, requireTls } = claim;
  const dsn = wishOf(claim);
  return { from, to, message, utf8Header, eightBit, requireTls, ...(dsn && { dsn }) };
}

/** The spool keeps a message in one piece, so its parts mostly lie in memory as they go out: then nothing is copied. */
function inOnePiece(parts: readonly Buffer[]): Buffer {
  const [first] = parts as [Buffer];
  let end = first.byteOffset;
  for (const part of parts) {
    if (part.buffer !== first.buffer || part.byteOffset !== end) return Buffer.concat(parts);
    end += part.length;
  }
  return Buffer.from(first.buffer, first.byteOffset, end - first.byteOffset);
}

function wishOf({ ret, envid, notify, orcpt }: Claim): DsnWish | undefined {
  if (ret === undefined && envid === undefined && notify === undefined && orcpt === undefined)
    return undefined;
  return { ret, envid, notify, orcpt };
}
