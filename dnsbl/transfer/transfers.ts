/**
 * Zones for secondaries: AXFR (RFC 5936), IXFR (RFC 1995), NOTIFY (RFC 1996), signed by TSIG (RFC 8945).
 *
 * Promise: a zone is given only to whom its rules allow, whole and as it was at one serial, or the
 * connection ends; an IXFR leads from the secondary's serial to ours. Transfers at once, their time and
 * their octets are bounded, and the event loop has its turn every few milliseconds.
 *
 * 1. request.ts: what is asked, is it signed, and rightly? 2. Is it allowed (allow.ts), is there a place
 * (slots.ts)? 3. Does the zone's history reach back (history.ts, journal.ts)? Then the steps since, else the
 * whole zone. 4. Records fill messages (message-writer.ts); each is signed (tsig.ts).
 *
 * Over TCP only. What else is signed, and an IXFR over UDP, every answering thread answers by itself
 * (signed-answers.ts, ../answer.ts).
 *
 * Counters: `dns_transfer_answers` {axfr, ixfr, soa, refused, busy, notauth, formerr, badkey, badsig, badtime,
 * badtrunc}, `dns_transfer_cuts` {time, octets, stopped, moved}, and those of notifier.ts and journal.ts.
 */
import { join } from 'node:path';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { prefixText } from '../access/prefix.ts';
import type { OwnedRecords, ZoneChange } from '../difference.ts';
import { hostKey, type NameKey } from '../name.ts';
import { TYPE } from '../records.ts';
import type { Client } from '../seams.ts';
import { isAfter } from '../serial.ts';
import { isForTransfer } from '../transfer-seam.ts';
import { CLASS_IN, RCODE } from '../wire.ts';
import { type Zone, ZoneMoved } from '../zone.ts';
import { AllowList, type TransferRule } from './allow.ts';
import { differenceSequence } from './difference-sequence.ts';
import { History } from './history.ts';
import { Journal, type Steps } from './journal.ts';
import { Keyring, type TsigKey } from './keys.ts';
import { defaultTransferLimits, type TransferLimits, TURN_MS } from './limits.ts';
import { bareAnswer, MessageWriter } from './message-writer.ts';
import { Notifier, type Secondary } from './notifier.ts';
import { readRequest, type TransferRequest } from './request.ts';
import { type Slot, Slots, TransferCut } from './slots.ts';

export type { TransferRule } from './allow.ts';
export { parseKeys, type TsigKey } from './keys.ts';
export type { TransferLimits } from './limits.ts';
export type { Secondary } from './notifier.ts';

/** Changes that are longer than the zone itself are not worth telling; a zone has so much at least. */
const MIN_ZONE_OCTETS = 64 * 1024;
/** What a listing has in a transfer, about: three records with the explanation. */
const LISTING_OCTETS = 400;

export type TransfersOptions = {
  zones: readonly Zone[];
  keys: readonly TsigKey[];
  /** By apex. A zone without rules is given to nobody. */
  allow: ReadonlyMap<string, readonly TransferRule[]>;
  /** By apex: who is told of changes. */
  notify: ReadonlyMap<string, readonly Secondary[]>;
  /** Holds `<apex>.journal` for each zone; made when it is not there. */
  journalDir: string;
  /** Unix ms. */
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  limits?: Partial<TransferLimits>;
};

type Served = { zone: Zone; apex: NameKey; allow: AllowList; history?: History };

/** Satisfies Transfer of ../transfer-seam.ts. */
export class Transfers {
  readonly keys: readonly TsigKey[];
  readonly #options: TransfersOptions;
  readonly #limits: TransferLimits;
  readonly #keyring: Keyring;
  readonly #zones: readonly Served[];
  readonly #slots: Slots;
  readonly #notifier: Notifier;

  /** @throws RangeError when keys, rules or secondaries make no sense */
  constructor(options: TransfersOptions) {
    const { zones, keys, allow, notify, now, log, count } = options;
    // Of their own memory: a Buffer may share its own with others, and these are posted to threads.
    this.keys = keys.map(({ name, secret }) => ({ name, secret: Uint8Array.from(secret) }));
    this.#options = options;
    this.#limits = { ...defaultTransferLimits, ...options.limits };
    this.#keyring = new Keyring(keys);
    this.#slots = new Slots(this.#limits);
    // Of two zones, one inside the other, the inner has the longer apex and is found first.
    this.#zones = zones
      .map((zone) => ({
        zone,
        apex: hostKey(zone.apex) ?? '',
        allow: new AllowList(allow.get(zone.apex) ?? [], this.#keyring),
      }))
      .sort((a, b) => b.apex.length - a.apex.length);
    this.#notifier = new Notifier({
      zones,
      notify,
      keyring: this.#keyring,
      now,
      log,
      count,
      limits: this.#limits,
    });
  }

  /**
   * Joins each zone with its journal, in the background; the zones are filled before, and their onChange
   * leads to changed() already. Secondaries are told of the zones as they are then.
   *
   * @throws the error of the file system when `journalDir` cannot be used
   */
  async start(): Promise<void> {
    const { journalDir, log, count } = this.#options;
    const { maxJournalOctets: maxOctets, journalWriteMs: writeMs } = this.#limits;
    for (const served of this.#zones) {
      const { zone } = served;
      const path = join(journalDir, `${zone.apex}.journal`);
      const journal = await Journal.open({ path, apex: zone.apex, maxOctets, writeMs, log, count });
      const onSettled = () => this.#notifier.changed(zone.apex);
      served.history = new History({ zone, journal, onSettled, log, count });
      served.history.start();
    }
  }

  /** Ends transfers under way, each before its next message; resolves when the journals are on disk. */
  async stop(): Promise<void> {
    this.#slots.stop();
    await this.#notifier.stop();
    await Promise.all(this.#zones.map(({ history }) => history?.stop()));
  }

  /** For the zone's onChange: right after each change. */
  changed(apex: string, change: ZoneChange | 'replaced'): void {
    const history = this.#zones.find(({ zone }) => zone.apex === apex)?.history;
    history?.changed(change);
    if (history?.isSettled) this.#notifier.changed(apex);
  }

  /** See Transfer. */
  handle(message: Buffer, client: Client): AsyncIterable<Buffer> | undefined {
    if (!isForTransfer(message)) return undefined;
    const reading = readRequest(message, this.#keyring, this.#options.now);
    if (reading.kind === 'rejected') return this.#single(reading.answer, reading.reason);
    // A later EDNS version may give the rest another meaning: the Answerer says BADVERS.
    if (reading.kind === 'other' || reading.request.query.edns?.version) return undefined;
    return this.#transfer(reading.request, client);
  }

  async *#single(answer: Buffer, what: string): AsyncGenerator<Buffer> {
    this.#options.count('dns_transfer_answers', what);
    yield answer;
  }

  #refusal(request: TransferRequest, rcode: number, reason: string): AsyncGenerator<Buffer> {
    return this.#single(request.sign(bareAnswer(request.query, rcode)), reason);
  }

  #transfer(request: TransferRequest, client: Client): AsyncGenerator<Buffer> {
    const { question } = request.query;
    const served = this.#zones.find(({ apex }) => apex === question.key);
    if (!served || question.class !== CLASS_IN) return this.#refusal(request, RCODE.NOTAUTH, 'notauth');
    if (!served.allow.allows(client, request.keyName))
      return this.#refusal(request, RCODE.REFUSED, 'refused');
    const { serial } = request;
    if (question.type === TYPE.AXFR)
      return this.#placed(request, client, (slot) => this.#whole(request, served.zone, slot));
    if (serial === undefined) return this.#refusal(request, RCODE.FORMERR, 'formerr');
    if (!isAfter(served.zone.serial, serial)) return this.#single(soaAlone(request, served.zone), 'soa');
    return this.#placed(request, client, (slot) => this.#since(request, served, serial, slot));
  }

  /** The place is taken when the first message is asked for: an answer that nobody reads holds none. */
  async *#placed(
    request: TransferRequest,
    client: Client,
    messages: (slot: Slot) => AsyncIterable<Buffer>,
  ): AsyncGenerator<Buffer> {
    const slot = this.#slots.take(client);
    if (!slot) {
      yield* this.#refusal(request, RCODE.SERVFAIL, 'busy');
      return;
    }
    let turnEndMs = performance.now() + TURN_MS;
    try {
      for await (const message of messages(slot)) {
        const signed = request.sign(message);
        slot.spend(signed.length);
        yield signed;
        if (performance.now() < turnEndMs) continue;
        await nextTurn();
        turnEndMs = performance.now() + TURN_MS;
      }
    } catch (error) {
      this.#tellCut(error, client);
      throw error;
    } finally {
      slot.release();
    }
  }

  #tellCut(error: unknown, client: Client): void {
    const reason =
      error instanceof TransferCut ? error.reason : error instanceof ZoneMoved ? 'moved' : undefined;
    if (reason === undefined) return;
    this.#options.count('dns_transfer_cuts', reason);
    this.#options.log.warn(
      { reason, peer: prefixText(client.family, client.address, 0, 128) },
      'a zone transfer was cut',
    );
  }

  async *#whole(request: TransferRequest, zone: Zone, slot: Slot): AsyncGenerator<Buffer> {
    this.#options.count('dns_transfer_answers', 'axfr');
    const soa: OwnedRecords = { owner: '', set: zone.soa() };
    const records = zone.records();
    slot.onCut(() => records.close());
    try {
      yield* messagesOf([[soa], records, [soa]], writerFor(request));
    } finally {
      records.close();
    }
  }

  /** RFC 1995 §4: the changes, or the whole zone where they do not reach back or are the longer of the two. */
  async *#since(
    request: TransferRequest,
    served: Served,
    serial: number,
    slot: Slot,
  ): AsyncGenerator<Buffer> {
    const { zone } = served;
    const steps = await this.#stepsSince(served, serial);
    const isWorth = steps && steps.octets <= Math.max(MIN_ZONE_OCTETS, zone.size * LISTING_OCTETS);
    try {
      if (isWorth) {
        this.#options.count('dns_transfer_answers', 'ixfr');
        yield* messagesOf(differenceSequence(zone.soa(), steps.to, steps.read()), writerFor(request));
      }
    } finally {
      await steps?.close();
    }
    if (!isWorth) yield* this.#whole(request, zone, slot);
  }

  async #stepsSince({ history }: Served, serial: number): Promise<Steps | undefined> {
    if (!history?.reaches(serial)) return undefined;
    if (!history.isSettled) {
      await Promise.race([history.settled, pause(this.#limits.settleWaitMs, undefined, { ref: false })]);
    }
    return history.since(serial);
  }
}

function writerFor(request: TransferRequest): MessageWriter {
  return new MessageWriter(request.query, request.signatureOctets);
}

function soaAlone(request: TransferRequest, zone: Zone): Buffer {
  const writer = writerFor(request);
  const soa = zone.soa();
  writer.add('', soa, soa.rdatas[0]!);
  return request.sign(writer.take());
}

type Parts = AsyncIterable<Iterable<OwnedRecords>> | Iterable<Iterable<OwnedRecords>>;

async function* messagesOf(parts: Parts, writer: MessageWriter): AsyncGenerator<Buffer> {
  for await (const part of parts) {
    for (const { owner, set } of part) {
      for (const rdata of set.rdatas) {
        if (writer.add(owner, set, rdata)) continue;
        yield writer.take();
        if (!writer.add(owner, set, rdata)) throw new RangeError('a record is longer than a message');
      }
    }
  }
  yield writer.take();
}
