/**
 * The control socket: how commands speak to the node that runs.
 *
 * Promise: only the user that runs the node, and root, can connect (`state/control.sock`, mode 0600; its folder
 * has 0700). A socket that a crash left behind is replaced; one at which somebody answers is not, and closing takes
 * away its own alone.
 */
import { chmodSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import fastify, { type FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { type ErrorCode, httpBody, problem } from '../errors.ts';
import { answerErrors } from '../http/refusal.ts';
import { withoutSchemas } from '../http/without-schemas.ts';

/** @param stateDir absolute. A Unix socket's path has at most 107 octets. */
export function controlPath(stateDir: string): string {
  return join(stateDir, 'control.sock');
}

export class ControlSocket {
  readonly app: FastifyInstance;
  readonly #path: string;

  constructor(o: { stateDir: string; log: Logger }) {
    this.#path = controlPath(o.stateDir);
    this.app = fastify({ ...withoutSchemas, bodyLimit: 256 * 1024 });
    this.app.setErrorHandler(answerErrors(o.log));
    this.app.setNotFoundHandler((_request, reply) => reply.code(404).send(httpBody(problem('NOT_FOUND'))));
  }

  /** @throws Error when somebody answers there, or the socket cannot be made, as for a path of over 107 octets */
  async start(): Promise<void> {
    if (Buffer.byteLength(this.#path) > 107)
      throw new Error(
        `${this.#path}: the path of a socket has at most 107 octets. Choose a shorter stateDir.`,
      );
    if (await isAnswered(this.#path))
      throw new Error(`${this.#path}: another process answers there. Stop it, or choose another stateDir.`);
    rmSync(this.#path, { force: true });
    await this.app.listen({ path: this.#path });
    chmodSync(this.#path, 0o600);
  }

  async stop(): Promise<void> {
    this.app.server.closeAllConnections();
    // This takes the socket away too; done here, later and by its path, it could be another process's.
    await this.app.close();
  }
}

/** False for nothing, and for what a crash left behind. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** The node answered with an error of the catalogue. */
export class ControlError extends Error {
  override name = 'ControlError';
  readonly code: ErrorCode;

  constructor(body: { error: string; code: ErrorCode; action: string }) {
    super(`${body.error} ${body.action}`);
    this.code = body.code;
  }
}

/**
 * One request to the running node.
 *
 * @throws ControlError; NoNodeRuns with this state folder; Error when this user may not speak to it
 */
export async function callNode(stateDir: string, method: 'GET' | 'POST', path: string, body?: unknown) {
  const { status, text } = await exchange(controlPath(stateDir), method, path, body);
  const answer = JSON.parse(text) as unknown;
  if (status >= 400) throw new ControlError(answer as ConstructorParameters<typeof ControlError>[0]);
  return answer;
}

function exchange(socketPath: string, method: string, path: string, body?: unknown) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const call = request({ socketPath, method, path, headers }, (reply) => {
      const chunks: Buffer[] = [];
      reply.on('data', (chunk: Buffer) => chunks.push(chunk));
      reply.on('end', () => resolve({ status: reply.statusCode!, text: Buffer.concat(chunks).toString() }));
      reply.on('error', reject);
    });
    call.on('error', (error: NodeJS.ErrnoException) => reject(explained(error, socketPath)));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Nobody listens there. */
export class NoNodeRuns extends Error {
  override name = 'NoNodeRuns';
}

function explained(error: NodeJS.ErrnoException, path: string): Error {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED')
    return new NoNodeRuns(`no node runs with this state folder (${path}). Start it with \`atmos start\`.`);
  if (error.code === 'EACCES') return new Error(`this user may not speak to the node (${path}).`);
  return error;
}
