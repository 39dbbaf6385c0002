/**
 * The acts on peers as JSON over HTTP, for the command line.
 *
 * Whoever reaches it may do everything: it stands on the control socket only (operator/control.ts).
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { read, refuse } from '../http/refusal.ts';
import { stances } from './peer-book.ts';
import { PeerRefused } from './peer-refusal.ts';
import type { Peers } from './peers.ts';

const text = (max: number) => z.string().trim().min(1).max(max);
const link = text(512).regex(/^https?:\/\/[^\s]+$/i, 'is not a link');

const named = z.strictObject({ name: text(300) });
const acting = { name: text(300), by: text(100) };
const saying = {
  ...acting,
  stance: z.enum(stances),
  reason: text(300).optional(),
};
export const newPeer = z.strictObject({
  ...saying,
  evidence: z.array(link).max(16).default([]),
  labelKey: text(256).optional(),
});
export const newStance = z.strictObject({ ...saying, evidence: z.array(link).max(16).optional() });
const removal = z.strictObject({ ...acting, reason: text(300).optional() });
const act = z.strictObject(acting);

/** A fastify plugin. */
export function peersApi(peers: Peers): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    const post = <T extends z.ZodType>(path: string, shape: T, work: (wanted: z.output<T>) => unknown) =>
      app.post(path, (request) => answered(() => work(read(shape, request.body))));
    app.get('/peers', () => peers.list());
    post('/peers/show', named, ({ name }) => peers.show(name));
    post('/peers/preview', named, ({ name }) => peers.preview(name));
    post('/peers/add', newPeer, (wanted) => peers.add(wanted));
    post('/peers/stance', newStance, ({ name, ...wanted }) => peers.setStance(name, wanted));
    post('/peers/remove', removal, ({ name, ...by }) => peers.remove(name, by));
    post('/peers/trust-key', act, ({ name, by }) => peers.trustKey(name, by));
    post('/peers/release', act, ({ name, by }) => peers.release(name, by));
  };
}

async function answered(work: () => unknown): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PeerRefused) refuse('PEER_REFUSED', sentence(error.message));
    throw error;
  }
}

function sentence(message: string): string {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
