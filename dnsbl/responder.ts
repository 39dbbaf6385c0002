/**
 * One thread's answers: the Answerer, the newest zones, access and limits, what is measured and logged
 * of them, and what a fault of ours costs.
 *
 * Promise: answer() never throws. A fault costs its packet the answer, is counted, and is told at most
 * once a second, so no packet can stop the process or fill its log. No log line has a subscriber's key.
 *
 * Everything that an answering thread needs comes in a ThreadSetup, which can be posted to a worker.
 */
import { Clock } from './access/clock.ts';
import type { AccessShare } from './access/share.ts';
import { ThreadAccess } from './access/thread-access.ts';
import { Answerer } from './answer.ts';
import { SOCKET } from './counters.ts';
import { keyLabels, labelsOf } from './key-labels.ts';
import { FAULT_REPORT_INTERVAL_MS } from './limits.ts';
import type { ThreadMetrics } from './metrics.ts';
import { ThreadQueryLog } from './query-log.ts';
import type { Client } from './seams.ts';
import type { ZoneShare } from './table/share.ts';
import type { TsigKey } from './transfer/keys.ts';
import { SignedAnswers } from './transfer/signed-answers.ts';
import type { Transport } from './wire.ts';

/** Structured-cloneable. */
export type ThreadSetup = {
  zones: ZoneShare[];
  counters: SharedArrayBuffer;
  /** Left out: everyone is answered, and cookies are not spoken. */
  access?: AccessShare;
  /** With which signed questions are answered; none: each is told that we do not share its key. */
  tsigKeys: readonly TsigKey[];
  /** This thread's ring. */
  queryLog?: SharedArrayBuffer;
  /** See AnswererOptions. */
  nsid?: string;
  version?: string;
};

/** `packetHex` is empty where no one packet was the cause; see #withoutKey. */
export type Fault = { error: unknown; packetHex: string };

const HEADER_OCTETS = 12;
const STAR = 0x2a;
/** Of a packet, in the log. */
const FAULT_PACKET_OCTETS = 512;

export type ResponderOptions = {
  setup: ThreadSetup;
  counters: ThreadMetrics;
  /** The zones whose tables may be newer than those in hand; asked when the shared header says so. */
  newest: () => Iterable<ZoneShare>;
  onFault: (fault: Fault) => void;
};

export class Responder {
  readonly #options: ResponderOptions;
  readonly #answerer: Answerer;
  readonly #clock = new Clock();
  readonly #access: ThreadAccess | undefined;
  readonly #queryLog: ThreadQueryLog | undefined;
  readonly #signed: SignedAnswers;
  readonly #apexes: readonly string[];
  #mayReportAtMs = 0;

  constructor(options: ResponderOptions) {
    const { zones, nsid, version, queryLog } = options.setup;
    const { counters } = options;
    this.#options = options;
    this.#apexes = zones.map(({ apex }) => apex);
    this.#queryLog = queryLog && new ThreadQueryLog(queryLog, this.#clock, counters);
    this.#access = this.#openAccess();
    this.#signed = new SignedAnswers(options.setup.tsigKeys);
    const { gate, cookies, keys } = this.#access ?? {};
    this.#answerer = new Answerer({ zones, counters, nsid, version, gate, cookies, keys });
    // Whoever keeps the setup would keep the first tables for ever.
    zones.length = 0;
  }

  #openAccess(): ThreadAccess | undefined {
    const { setup, counters } = this.#options;
    if (setup.access === undefined) return undefined;
    return new ThreadAccess({
      share: setup.access,
      apexes: this.#apexes,
      counters,
      clock: this.#clock,
      onLimited: (client, answerClass) => this.#queryLog?.limited(client, answerClass),
    });
  }

  /** Takes the newest zones and the time; before every packet, or before every batch of them. */
  refresh(): void {
    this.#clock.tick();
    if (!this.#answerer.isBehind()) return;
    try {
      for (const share of this.#options.newest()) this.#answerer.replace(share);
    } catch (error) {
      this.fault(error);
    }
  }

  /** A zone's new table; an older one than that in hand must not come after it. */
  replace(share: ZoneShare): void {
    this.#answerer.replace(share);
  }

  replaceAccess(share: AccessShare): void {
    this.#access?.replace(share);
  }

  /** For what answer() does not answer: whether the rules for addresses let this client ask. Counts nothing. */
  admits(client: Client): boolean {
    return this.#access?.admits(client) ?? true;
  }

  /** Like Answerer.answer. */
  answer(
    packet: Uint8Array,
    start: number,
    length: number,
    transport: Transport,
    client: Client,
    out: Uint8Array,
    outAt: number,
  ): number {
    try {
      const { counters } = this.#options;
      const startedMs = counters.startTiming();
      let octets = this.#answerer.answer(packet, start, length, transport, client, out, outAt);
      if (this.#answerer.query.isSigned && octets > 0)
        octets = this.#sign(packet, start, length, transport, out, outAt, octets);
      if (startedMs !== 0) counters.timed(startedMs);
      this.#queryLog?.see(this.#answerer, client, transport, octets);
      return octets;
    } catch (error) {
      this.fault(error, packet.subarray(start, start + Math.min(length, FAULT_PACKET_OCTETS)));
      return 0;
    }
  }

  #sign(
    packet: Uint8Array,
    start: number,
    length: number,
    transport: Transport,
    out: Uint8Array,
    outAt: number,
    octets: number,
  ): number {
    const signed = this.#signed.sign(packet, start, length, transport, out, outAt, octets);
    this.#options.counters.add(signed.isRight ? SOCKET.tsigSigned : SOCKET.tsigRejected);
    return signed.octets;
  }

  /** Counts what went wrong in answering, here or in the sockets, and tells of it now and then. */
  fault(error: unknown, packet: Uint8Array = new Uint8Array(0)): void {
    const { counters, onFault } = this.#options;
    counters.add(SOCKET.fault);
    if (performance.now() < this.#mayReportAtMs) return;
    this.#mayReportAtMs = performance.now() + FAULT_REPORT_INTERVAL_MS;
    onFault({ error, packetHex: this.#withoutKey(packet).toString('hex') });
  }

  /** A copy, with stars where the name in the question may have a subscriber's key. */
  #withoutKey(packet: Uint8Array): Buffer {
    const copy = Buffer.from(packet);
    const labels = labelsOf(copy.subarray(HEADER_OCTETS));
    for (const index of keyLabels(labels, this.#apexes)) labels[index]!.fill(STAR);
    return copy;
  }
}
