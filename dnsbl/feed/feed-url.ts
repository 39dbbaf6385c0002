/**
 * Where an AppView's `email.atmos.listing.subscribe` is. The operator names the AppView, so any host is allowed, but nobody on the way may change what is listed.
 *
 * @throws Error for what is no base URL, or not encrypted on its way
 */
export function feedUrl(from: string, cursor: number, insecure: boolean): URL {
  if (!URL.canParse(from)) throw new Error(`${from} is no URL`);
  const url = new URL('/xrpc/email.atmos.listing.subscribe', from);
  url.protocol = url.protocol.replace(/^http/, 'ws');
  const isLoopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') throw new Error(`${from} is no https URL`);
  if (url.protocol === 'ws:' && !isLoopback && !insecure) {
    throw new Error(`${from} is not encrypted: use https, or say --insecure`);
  }
  url.searchParams.set('cursor', String(cursor));
  return url;
}
