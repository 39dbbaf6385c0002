/**
 * What `atmos peer …` does: the running node acts, and it takes effect at once. Where no node runs, node.db is
 * changed, and the next start goes by it.
 */
import { pino } from 'pino';
import { readConfig } from '../config.ts';
import type { Peer, Saying } from '../cooperative/peer-book.ts';
import type { NewPeer } from '../cooperative/peers.ts';
import { peersApi } from '../cooperative/peers-api.ts';
import type { PeerPreview } from '../cooperative/preview.ts';
import { ControlError, ControlSocket, callNode, NoNodeRuns } from '../operator/control.ts';
import { openPeers, peerBook, type ReadPeer } from '../peers.ts';
import { openMembership } from '../state.ts';
import { networkOf } from './network.ts';

/** `status` is the running node's: what it reads of the peer. */
export type ShownPeer = Peer & { status?: ReadPeer };

/** `running` false: it counts from the next start. */
export type Done<T> = { result: T; running: boolean };

/** @throws ConfigError, ControlError */
export function previewPeer(configFile: string, name: string): Promise<Done<PeerPreview>> {
  return ask(configFile, 'POST', '/peers/preview', { name });
}

/** @throws ConfigError, ControlError */
export function addPeer(configFile: string, wanted: NewPeer): Promise<Done<Peer>> {
  return ask(configFile, 'POST', '/peers/add', wanted);
}

/** @throws ConfigError */
export function listPeers(configFile: string): Promise<Done<ShownPeer[]>> {
  return ask(configFile, 'GET', '/peers');
}

/** @throws ConfigError, ControlError */
export function showPeer(configFile: string, name: string): Promise<Done<ShownPeer>> {
  return ask(configFile, 'POST', '/peers/show', { name });
}

/** @throws ConfigError, ControlError */
export function setPeerStance(
  configFile: string,
  wanted: Omit<Saying, 'evidence'> & { name: string; evidence?: string[] },
): Promise<Done<Peer>> {
  return ask(configFile, 'POST', '/peers/stance', wanted);
}

/** @throws ConfigError, ControlError */
export function removePeer(
  configFile: string,
  wanted: { name: string; by: string; reason?: string },
): Promise<Done<Peer>> {
  return ask(configFile, 'POST', '/peers/remove', wanted);
}

/** @throws ConfigError, ControlError */
export function actOnPeer(
  configFile: string,
  act: 'trust-key' | 'release',
  wanted: { name: string; by: string },
): Promise<Done<Peer>> {
  return ask(configFile, 'POST', `/peers/${act}`, wanted);
}

async function ask<T>(
  configFile: string,
  method: 'GET' | 'POST',
  path: string,
  body?: unknown,
): Promise<Done<T>> {
  const { stateDir } = readConfig(configFile);
  try {
    return { result: (await callNode(stateDir, method, path, body)) as T, running: true };
  } catch (error) {
    if (!(error instanceof NoNodeRuns)) throw error;
    return { result: (await askBeside(configFile, method, path, body)) as T, running: false };
  }
}

/** The same API without its socket, over node.db alone. */
async function askBeside(
  configFile: string,
  method: 'GET' | 'POST',
  url: string,
  body?: unknown,
): Promise<unknown> {
  const config = readConfig(configFile);
  const state = await openMembership(config, Date.now);
  try {
    const { resolver, identities } = networkOf(config);
    const book = peerBook(config, state, Date.now);
    const peers = openPeers(config, { book, identities, resolver, now: Date.now });
    const { app } = new ControlSocket({ stateDir: config.stateDir, log: pino({ level: 'silent' }) });
    await app.register(peersApi(peers));
    const answer = await app.inject({ method, url, ...(body !== undefined && { payload: body as object }) });
    await app.close();
    const said = answer.json() as unknown;
    if (answer.statusCode >= 400)
      throw new ControlError(said as ConstructorParameters<typeof ControlError>[0]);
    return said;
  } finally {
    state.db.close();
  }
}
