/**
 * `GET /xrpc/com.atproto.label.queryLabels`, answered without xrpc-server's router, which would be two
 * thirds of the work.
 *
 * Promise: what the method's lexicon refuses is refused in xrpc-server's words: 400, `{ error, message }`.
 * Labels are public, so any page may ask (CORS). Corrupt state of our own stops the process.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { isCorruption } from '../../appview/database.ts';
import { com } from '../../lexicons/index.ts';
import type { LabelQueries, LabelQuery } from './label-query.ts';

export type QueryRouteOptions = {
  queries: LabelQueries;
  /** Whose labels are here. */
  did: string;
  now: () => number;
  log: { error(fields: object, text: string): void };
};

type Params = LabelQuery & { sources?: readonly string[] };
type Refused = { error: string; message: string };

const { nsid, parameters } = com.atproto.label.queryLabels.main;
const anyOrigin = { 'access-control-allow-origin': '*' };
const allowed = { 'access-control-allow-methods': 'GET, HEAD', 'access-control-allow-headers': '*' };
const oneDay = { 'access-control-max-age': '86400' };
const json = { 'content-type': 'application/json; charset=utf-8' };
const empty = '{"labels":[]}';

export function queryRoute(o: QueryRouteOptions): RequestListener {
  return async (request, reply) => {
    try {
      if (request.method === 'OPTIONS') reply.writeHead(204, { ...anyOrigin, ...allowed, ...oneDay }).end();
      else await answer(o, request, reply);
    } catch (error) {
      o.log.error({ err: error }, 'queryLabels failed');
      if (reply.headersSent) reply.destroy();
      else refuse(reply, 500, { error: 'InternalServerError', message: 'Internal Server Error' });
      // Uncaught on purpose, once this answer is on its way.
      if (isCorruption(error))
        setImmediate(() => {
          throw error;
        });
    }
  };
}

async function answer(o: QueryRouteOptions, request: IncomingMessage, reply: ServerResponse): Promise<void> {
  const { method } = request;
  if (method !== 'GET' && method !== 'HEAD') {
    const message = `Incorrect HTTP method (${method}) expected GET`;
    return refuse(reply, 400, { error: 'InvalidRequest', message });
  }
  const params = paramsOf(request.url ?? '');
  if ('error' in params) return refuse(reply, 400, params);
  const page = await o.queries.page(params, o.now());
  if (page.kind === 'bad-query') return refuse(reply, 400, { error: 'InvalidRequest', message: page.why });
  if (params.sources && !params.sources.includes(o.did)) return send(reply, 200, empty);
  const cursor = page.cursor === undefined ? '' : `"cursor":${JSON.stringify(page.cursor)},`;
  send(reply, 200, `{${cursor}"labels":[${page.labels}]}`);
}

/** The lexicon says what is right; what is plain needs no look at it. */
function paramsOf(url: string): Params | Refused {
  const query = url.indexOf('?') < 0 ? '' : url.slice(url.indexOf('?') + 1);
  const search = new URLSearchParams(query);
  return plainParams(search) ?? checkedParams(search);
}

/** One value of each, as nearly everyone asks. @returns undefined where the lexicon must be asked */
function plainParams(search: URLSearchParams): Params | undefined {
  let pattern: string | undefined;
  let cursor: string | undefined;
  let limit: number | undefined;
  for (const [name, value] of search) {
    if (name === 'uriPatterns' && pattern === undefined && value !== '') pattern = value;
    else if (name === 'cursor' && cursor === undefined && value !== '') cursor = value;
    else if (name === 'limit' && limit === undefined && isLimit(value)) limit = Number(value);
    else return undefined;
  }
  if (pattern === undefined) return undefined;
  return { uriPatterns: [pattern], limit: limit ?? 50, ...(cursor !== undefined && { cursor }) };
}

function isLimit(text: string): boolean {
  return /^[1-9]\d{0,2}$/.test(text) && Number(text) <= 250;
}

function checkedParams(search: URLSearchParams): Params | Refused {
  try {
    const { uriPatterns, sources, limit = 50, cursor } = parameters.fromURLSearchParams(search);
    return {
      ...{ uriPatterns, limit },
      ...(sources && { sources }),
      ...(cursor !== undefined && { cursor }),
    };
  } catch (error) {
    const { issues } = error as { issues?: readonly { message: string }[] };
    if (!issues) throw error;
    const why = issues.map(({ message }) => message).join(', ');
    return { error: 'InvalidRequest', message: `Invalid ${nsid} params: ${why}` };
  }
}

function refuse(reply: ServerResponse, status: number, why: Refused): void {
  send(reply, status, JSON.stringify(why));
}

/** To HEAD, Node sends the header alone. */
function send(reply: ServerResponse, status: number, body: string): void {
  reply.writeHead(status, { ...anyOrigin, ...json, 'content-length': Buffer.byteLength(body) });
  reply.end(body);
}
