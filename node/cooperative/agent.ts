/**
 * A client of a PDS: @atproto/api over our guarded fetch.
 *
 * Promise: no request leaves for an address that the rules forbid, wherever a PDS or a DID document points; an
 * answer has at most 1 MiB and 20 s. @atproto/api is loaded when it is first wanted: it is large.
 */
import type { AtpAgent } from '@atproto/api';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';

const maxBytes = 1024 * 1024;
const timeoutMs = 20_000;

export type Login = { identifier: string; password: string; authFactorToken?: string };

/** The PDS said no, in its own words: of bounded length, without control characters. */
export class PdsRefused extends Error {
  override name = 'PdsRefused';
  /** HTTP. */
  readonly status: number;
  /** Of the lexicon, such as `AuthFactorTokenRequired`. */
  readonly code: string;

  constructor(status: number, code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.status = status;
    this.code = code;
  }

  /** The password is not good any more. */
  get isAuth(): boolean {
    return this.status === 401;
  }
}

/** @param pds base URL without a path */
export async function agentOf(pds: string, fetch: GuardedFetch): Promise<AtpAgent> {
  const { AtpAgent } = await import('@atproto/api');
  return new AtpAgent({ service: pds, fetch: asFetch(fetch) });
}

/** @param account a DID, or a handle, of which the PDS is asked. @throws PdsRefused, FetchFailed, FetchRefused */
export async function accountDid(account: string, pds: string, fetch: GuardedFetch): Promise<string> {
  if (account.startsWith('did:')) return account;
  const agent = await agentOf(pds, fetch);
  const handle = account.replace(/^@/, '');
  const { data } = await said(() => agent.com.atproto.identity.resolveHandle({ handle }));
  return data.did;
}

/** @throws PdsRefused, FetchFailed, FetchRefused */
export async function signedIn(pds: string, login: Login, fetch: GuardedFetch): Promise<AtpAgent> {
  const agent = await agentOf(pds, fetch);
  await said(() => agent.login(login));
  return agent;
}

/** Signs in, does it, and signs out, whatever came of it. @throws PdsRefused, FetchFailed, FetchRefused */
export async function whileSignedIn<T>(
  pds: string,
  login: Login,
  fetch: GuardedFetch,
  act: (agent: AtpAgent) => Promise<T>,
): Promise<T> {
  const agent = await signedIn(pds, login, fetch);
  try {
    return await act(agent);
  } finally {
    await signedOut(agent);
  }
}

/** A session that is not ended ends by itself. */
export async function signedOut(agent: AtpAgent): Promise<void> {
  await agent.logout().catch(() => undefined);
}

/** Runs a call of the agent; what the PDS refuses becomes PdsRefused, what the network does stays what it was. */
export async function said<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const { status, error: code, message } = error as { status?: unknown; error?: unknown; message: string };
    const isAnswer = typeof status === 'number' && status >= 100;
    if (!isAnswer) throw networkError(error);
    const words = message.replace(/[\p{Cc}\p{Cf}]/gu, ' ').slice(0, 300);
    throw new PdsRefused(status, String(code), `the PDS says: ${words}`, error);
  }
}

/** The agent wraps what its fetch threw. */
function networkError(error: unknown): unknown {
  const { cause } = error as { cause?: unknown };
  return cause instanceof Error ? cause : error;
}

function asFetch(guarded: GuardedFetch): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const text = request.method === 'GET' ? undefined : await request.text();
    const { status, headers, body } = await guarded(request.url, {
      ...{ maxBytes, timeoutMs, headers: Object.fromEntries(request.headers) },
      ...(text !== undefined && { body: text }),
    }).catch((error: Error) => {
      // Else nobody could tell which of several servers was meant.
      error.message = `${new URL(request.url).origin}: ${error.message}`;
      throw error;
    });
    const type = headers['content-type'];
    return new Response(status === 204 || status === 304 ? null : Buffer.from(body), {
      status,
      ...(typeof type === 'string' && { headers: { 'content-type': type } }),
    });
  };
}
