/**
 * One round: a number of messages through one system, from the load's first connection until the last
 * message is at the sink and the system has come to rest.
 *
 * @throws when not exactly what was sent arrived
 */
import type { ChildProcess } from 'node:child_process';
import { cpuMsOf, pssMbOf, rssMbOf } from '../processes.ts';
import { messageOf, stop } from './children.ts';
import {
  expectMessages,
  type LoadReport,
  type SinkReport,
  startLoad,
  startSink,
  type TlsLoad,
} from './ends.ts';
import type { DnsText, Running } from './system.ts';

export type Figures = {
  acceptedPerSecond: number;
  deliveredPerSecond: number;
  /** Of the system alone: neither client nor sink. */
  cpuMsPerMessage: number;
  /** The most seen during the round, plain sum of RSS. */
  rssMb: number;
  /** At its end. */
  pssMb: number;
};

/** Two sides that are the same for all systems; the figures come from them. */
export type Ends = {
  /** Sends the load and waits until all of it arrived; times are on clock.ts's clock. */
  exchange(): Promise<Exchange<{ startedAt: number; endedAt: number }>>;
  /** @throws when what arrived is not signed as it should be */
  verify(records: DnsText[]): Promise<void>;
};

/** What sending it gave, and when the last message arrived. */
export type Exchange<Sent> = { sent: Sent; lastAt: number };

const sampleMs = 250;
/** Marks, event logs and the like follow the last delivery. */
const restMs = 700;

export async function round(running: Running, ends: Ends, messages: number): Promise<Figures> {
  const cpuBefore = cpuMsOf(running.pids);
  let rssMb = 0;
  const sampler = setInterval(() => {
    rssMb = Math.max(rssMb, rssMbOf(running.pids));
  }, sampleMs);
  try {
    const { sent, lastAt } = await ends.exchange();
    const { startedAt, endedAt } = sent;
    await new Promise((resolve) => setTimeout(resolve, restMs));
    const figures = {
      acceptedPerSecond: (messages * 1000) / (endedAt - startedAt),
      deliveredPerSecond: (messages * 1000) / (lastAt - startedAt),
      cpuMsPerMessage: (cpuMsOf(running.pids) - cpuBefore) / messages,
      rssMb: Math.max(rssMb, rssMbOf(running.pids)),
      pssMb: pssMbOf(running.pids),
    };
    if (running.records) await ends.verify(running.records);
    return figures;
  } finally {
    clearInterval(sampler);
  }
}

/** Our own sink. */
export class TlsSink {
  readonly #child: ChildProcess;
  readonly port: number;
  /** The first messages of the last round. */
  kept: Buffer[] = [];

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(tls: { keyFile: string; certFile: string }): Promise<TlsSink> {
    const child = startSink(tls);
    const report = await messageOf<SinkReport>(child, 10_000, 'the sink');
    if (report.kind !== 'listening') throw new Error(`the sink says ${report.kind}`);
    return new TlsSink(child, report.port);
  }

  /** Counts from before `send` until all `messages` are here. */
  async whileCounting<Sent>(messages: number, send: () => Promise<Sent>): Promise<Exchange<Sent>> {
    await expectMessages(this.#child, messages, 2);
    const [report, sent] = await Promise.all([
      messageOf<SinkReport>(this.#child, 120_000, 'the last delivery'),
      send(),
    ]);
    if (report.kind !== 'complete') throw new Error(`the sink says ${JSON.stringify(report)}`);
    this.kept = report.kept.map((one) => Buffer.from(one, 'base64'));
    this.#child.once('message', (late: SinkReport) => {
      if (late.kind === 'too-many') throw new Error(`more than the ${messages} sent arrived`);
    });
    return { sent, lastAt: report.at };
  }

  stop(): Promise<void> {
    return stop(this.#child);
  }
}

/** Our own load. */
export async function sendLoad(load: TlsLoad): Promise<Extract<LoadReport, { kind: 'done' }>> {
  const child = startLoad(load);
  const report = await messageOf<LoadReport>(child, 180_000, 'the load');
  child.stdin!.end();
  if (report.kind === 'failed') throw new Error(`the load failed: ${report.reason}`);
  if (report.accepted !== load.messages) throw new Error(`${report.accepted} of ${load.messages} accepted`);
  return report;
}
