/**
 * Fetches addresses that strangers name: a PLC directory, a did:web host, a member's PDS, a webhook.
 *
 * Promise: no byte goes to an address that address.ts does not allow, whatever a name resolves to and
 * whenever it changes: the address that is checked is the address that is connected to. No name is looked
 * up elsewhere than the rules say. Redirects are not followed, the body and the time are capped.
 */
import { lookup as systemLookup } from 'node:dns/promises';
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { type AddressRules, addressAllowed } from './address.ts';

export type GuardedFetchOptions = {
  /** Default 1 MiB. */
  maxBytes?: number;
  /** A body over maxBytes is cut there and is no failure. */
  cut?: boolean;
  /** For everything, from the name's resolution to the last byte; default 10 s. */
  timeoutMs?: number;
  headers?: Record<string, string>;
  /** Makes it a POST. */
  body?: string;
  /** Ends it before its time. */
  signal?: AbortSignal;
};

/** A 3xx is a status like any other. `headers` have lower-case names. */
export type GuardedResponse = {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Uint8Array;
};

/**
 * @throws FetchRefused when the rules forbid the URL or its address
 * @throws FetchFailed for what went wrong on the way: network, TLS, time-out, a body over the cap
 */
export type GuardedFetch = (url: string, init?: GuardedFetchOptions) => Promise<GuardedResponse>;

/** Not an address we fetch; asking again changes nothing. */
export class FetchRefused extends Error {
  override name = 'FetchRefused';
}

/** A later try may succeed. */
export class FetchFailed extends Error {
  override name = 'FetchFailed';
}

/** https to public addresses; with loopback allowed, http and https to loopback too. */
export function guardedFetch(rules: AddressRules): GuardedFetch {
  return async (address, init = {}) => {
    const url = checkedUrl(address, rules);
    const rulesHere = url.protocol === 'http:' ? { ...rules, loopbackOnly: true } : rules;
    const { maxBytes = 1024 * 1024, timeoutMs = 10_000 } = init;
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
    const response = await open(url, rulesHere, init, signal);
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      body: await readCapped(response, maxBytes, init.cut === true),
    };
  };
}

/**
 * Asks what a fetch would be refused for now, without one: the URL, and where its name points.
 *
 * @throws FetchRefused, also when a name has only addresses that are not allowed; FetchFailed when it has none
 */
export async function checkFetchable(address: string, rules: AddressRules): Promise<void> {
  const url = checkedUrl(address, rules);
  const rulesHere = url.protocol === 'http:' ? { ...rules, loopbackOnly: true } : rules;
  const literal = literalOf(url);
  if (isIP(literal) && !addressAllowed(literal, rulesHere)) throw refused(literal);
  if (isIP(literal)) return;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  checkedLookup(rulesHere)(literal, {}, (error) => (error ? reject(asFailure(error)) : resolve()));
  await promise;
}

function checkedUrl(address: string, rules: AddressRules): URL {
  if (!URL.canParse(address)) throw new FetchRefused('not a URL');
  const url = new URL(address);
  const plain = url.protocol === 'http:' && (rules.allowLoopback || rules.loopbackOnly);
  if (url.protocol !== 'https:' && !plain) throw new FetchRefused(`${url.protocol} is not fetched`);
  if (url.username || url.password) throw new FetchRefused('a URL with credentials is not fetched');
  return url;
}

function open(
  url: URL,
  rules: AddressRules,
  { body, headers = {} }: GuardedFetchOptions,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  // An address in the URL itself never passes through `lookup`.
  const literal = literalOf(url);
  if (isIP(literal) && !addressAllowed(literal, rules)) throw refused(literal);
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request: ClientRequest = send(url, {
      // No pooled connection: its address would have been checked under another URL's rules.
      agent: false,
      lookup: checkedLookup(rules),
      signal,
      method: body === undefined ? 'GET' : 'POST',
      maxHeaderSize: 16 * 1024,
      // The cap is on what we hold in memory: nothing is decompressed.
      headers: { 'accept-encoding': 'identity', 'user-agent': 'atmosphere-mail', ...headers },
    });
    request.once('response', resolve);
    request.on('error', (error) => reject(asFailure(error)));
    // An upgrade that nobody asked for ends without an error.
    request.once('close', () => reject(new FetchFailed('closed without an answer')));
    request.end(body);
  });
}

/** The host without the brackets of an IPv6 address. */
function literalOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

/** Resolves by the rules and hands on only allowed addresses, so that a rebinding name gains nothing. */
export function checkedLookup(rules: AddressRules): LookupFunction {
  return lookupBy(rules, (address) => addressAllowed(address, rules));
}

/** For a host that the operator named: resolved by the rules; `isAllowed` may judge its addresses. */
export function lookupBy(rules: AddressRules, isAllowed = (_address: string) => true): LookupFunction {
  return (hostname, { family, all }, callback) => {
    addressesOf(hostname, rules).then(
      (found) => {
        const allowed = found.filter(isAllowed).map((address) => ({ address, family: isIP(address) }));
        const usable = allowed.filter((one) => !family || one.family === familyNumber(family));
        const first = usable[0];
        if (found.length === 0) return callback(new FetchFailed(`${hostname} has no address`), '', 0);
        if (!first) return callback(refused(hostname), '', 0);
        if (all) return callback(null, usable);
        callback(null, first.address, first.family);
      },
      (error: Error) => callback(error, '', 0),
    );
  };
}

async function addressesOf(hostname: string, rules: AddressRules): Promise<string[]> {
  // RFC 6761 §6.3: these names are loopback, and no resolver is asked.
  if (/^(.+\.)?localhost\.?$/i.test(hostname)) return ['127.0.0.1', '::1'];
  if (rules.lookup) return (await rules.lookup(hostname)).filter((address) => isIP(address) !== 0);
  if (rules.loopbackOnly) throw new FetchRefused(`${hostname} is not looked up: only loopback is allowed`);
  return (await systemLookup(hostname, { all: true })).map(({ address }) => address);
}

function familyNumber(family: number | 'IPv4' | 'IPv6'): number {
  return typeof family === 'number' ? family : Number(family.at(-1));
}

async function readCapped(response: IncomingMessage, maxBytes: number, cut: boolean): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes && cut) return Buffer.concat([...chunks, chunk]).subarray(0, maxBytes);
      if (size > maxBytes) throw new FetchFailed(`the body is larger than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw asFailure(error as Error);
  } finally {
    response.destroy();
  }
  return Buffer.concat(chunks);
}

function refused(what: string): FetchRefused {
  return new FetchRefused(`${what} is not a public address`);
}

function asFailure(error: Error): FetchRefused | FetchFailed {
  if (error instanceof FetchRefused || error instanceof FetchFailed) return error;
  return new FetchFailed(wordsOf(error), { cause: error });
}

/** A host with several addresses fails with the error of each, and no words of its own. */
function wordsOf(error: Error): string {
  const each = error instanceof AggregateError ? error.errors.map(({ message }: Error) => message) : [];
  return error.message || each.join('; ') || error.name;
}
