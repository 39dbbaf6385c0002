/**
 * Milliseconds from the final dot to 250 at 200 messages a second, whatever became of those before.
 *
 * "Theirs" is the budget.
 */
import { fromPairs, type Row } from '../compare.ts';
import { ours } from './ours.ts';
import { sendLoad, TlsSink } from './round.ts';
import { Shared } from './surroundings.ts';
import { senderDomain } from './system.ts';
import type { Plan } from './tables.ts';

const perSecond = 200;
const seconds = 20;
const warmUp = 2_000;
const budgetMs = 25;

export async function measureLatency({ rounds, scale }: Plan): Promise<Row[]> {
  const shared = await Shared.make();
  const sink = await TlsSink.start(shared.certificate);
  const running = await ours.start(shared.for(ours.key, sink.port));
  try {
    const messages = Math.round(perSecond * seconds * scale);
    const { port, auth, recipientDomain } = running;
    const load = { port, auth: auth!, messages, sessions: 30, bytes: 10 * 1024, reuse: true };
    const envelope = { from: `a@${senderDomain}`, to: `b@${recipientDomain}` };
    const pairs: [number, number][] = [];
    // As in the other tables: what a node is in its first seconds is not what it is for months.
    await Promise.all([sendLoad({ ...load, ...envelope, messages: warmUp }), sink.arrived(warmUp)]);
    for (let i = 0; i < rounds; i += 1) {
      const [{ latenciesMs }] = await Promise.all([
        sendLoad({ ...load, ...envelope, perSecond }),
        sink.arrived(messages),
      ]);
      const sorted = latenciesMs.sort((a, b) => a - b);
      const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)]!;
      console.log(
        `  final dot to 250 at ${perSecond}/s: ${[0.5, 0.9, 0.99, 0.999].map((p) => `p${p * 100} ${at(p).toFixed(1)} ms`).join(', ')}`,
      );
      pairs.push([at(0.99), budgetMs]);
    }
    return [fromPairs(`final dot to 250 at ${perSecond}/s, p99 / budget`, 'ms', pairs)];
  } finally {
    await running.stop();
    await sink.stop();
    shared.remove();
  }
}
