/** Octets of request bodies count against the byte budget from before the first is read until the work is done. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ByteBudget } from '../byte-budget.ts';
import { refuse } from './refusal.ts';

type Hold = { isWorking: boolean; release: () => void };

const holds = new WeakMap<FastifyRequest, Hold>();

/** Every body of the plugin's routes is read only when the budget has room for it; else QUEUE_FULL. */
export function holdBodies(app: FastifyInstance, budget: ByteBudget): void {
  app.addHook('preParsing', async (req, reply) => {
    holds.set(req, hold(budget, req, reply));
  });
}

/** A client that went away leaves its message in memory until the work on it has ended. */
export async function whileHeld<T>(req: FastifyRequest, work: () => Promise<T>): Promise<T> {
  const held = holds.get(req)!;
  held.isWorking = true;
  try {
    return await work();
  } finally {
    held.release();
  }
}

/** @throws Refusal */
function hold(budget: ByteBudget, req: FastifyRequest, reply: FastifyReply): Hold {
  const limit = req.routeOptions.bodyLimit;
  // A length that is not declared counts as the largest.
  const declared = Number(req.headers['content-length'] ?? limit);
  const release = budget.hold(Math.min(declared || 0, limit));
  if (!release) return refuse('QUEUE_FULL');
  const held = { isWorking: false, release };
  // A body that does not parse and a client that goes away never reach the handler.
  reply.raw.once('close', () => {
    if (!held.isWorking) release();
  });
  return held;
}
