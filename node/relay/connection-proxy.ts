/**
 * The PROXY protocol, versions 1 and 2: what a load balancer says about the client behind it.
 * https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 *
 * Only a peer that the configuration names may say it; who that is, is the listener's question.
 */
import type { Socket } from 'node:net';
import { isIP } from 'node:net';

export type ProxyHeader =
  /** Not yet whole. */
  | { kind: 'partial' }
  | { kind: 'malformed' }
  /** `source` absent: the proxy speaks for itself (a health check), or does not know. */
  | { kind: 'header'; length: number; source?: { address: string; port: number } };

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** §2.1: 107 octets with CR LF. */
const maxV1 = 107;
/** §2.2 allows 65,551; ours come without certificates inside. */
const maxV2 = 4096;

/** @param octets what has come so far */
export function parseProxyHeader(octets: Buffer): ProxyHeader {
  const common = Math.min(octets.length, signature.length);
  if (octets.subarray(0, common).equals(signature.subarray(0, common)))
    return common < signature.length ? { kind: 'partial' } : parseV2(octets);
  return parseV1(octets);
}

function parseV1(octets: Buffer): ProxyHeader {
  const start = octets.toString('latin1', 0, maxV1);
  const end = start.indexOf('\r\n');
  if (end === -1) {
    const mayBecome = 'PROXY '.startsWith(start) || start.startsWith('PROXY ');
    return mayBecome && octets.length < maxV1 ? { kind: 'partial' } : { kind: 'malformed' };
  }
  const length = end + 2;
  const line = start.slice(0, end);
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return { kind: 'header', length };
  const [, family, address, target, port] =
    /^PROXY TCP([46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d{1,5}) \d{1,5}$/.exec(line) ?? [];
  const isRight = family !== undefined && [address, target].every((one) => isIP(one!) === Number(family));
  if (!isRight || Number(port) > 65_535) return { kind: 'malformed' };
  return { kind: 'header', length, source: { address: address!, port: Number(port) } };
}

function parseV2(octets: Buffer): ProxyHeader {
  if (octets.length < 16) return { kind: 'partial' };
  const [versionAndCommand, family] = [octets[12]!, octets[13]!];
  const length = 16 + octets.readUInt16BE(14);
  if (length > maxV2 || ![0x20, 0x21].includes(versionAndCommand)) return { kind: 'malformed' };
  if (octets.length < length) return { kind: 'partial' };
  if (versionAndCommand === 0x20) return { kind: 'header', length };
  if (family === 0x11 && length >= 16 + 12)
    return { kind: 'header', length, source: v4Source(octets.subarray(16)) };
  if (family === 0x21 && length >= 16 + 36)
    return { kind: 'header', length, source: v6Source(octets.subarray(16)) };
  // §2.2: UNSPEC and families that we do not listen on: the connection's own addresses count.
  return family === 0x11 || family === 0x21 ? { kind: 'malformed' } : { kind: 'header', length };
}

function v4Source(block: Buffer): { address: string; port: number } {
  return { address: block.subarray(0, 4).join('.'), port: block.readUInt16BE(8) };
}

function v6Source(block: Buffer): { address: string; port: number } {
  const groups = Array.from({ length: 8 }, (_, n) => block.readUInt16BE(2 * n).toString(16));
  return { address: groups.join(':'), port: block.readUInt16BE(32) };
}

/**
 * Reads the header off a fresh socket; what came behind it is left for the next reader.
 *
 * @returns undefined when the peer left or said something else; the caller then destroys the socket
 */
export function readProxyHeader(
  socket: Socket,
): Promise<{ source?: { address: string; port: number } } | undefined> {
  return new Promise((resolve) => {
    let octets: Buffer = Buffer.alloc(0);
    const gone = (): void => end({ kind: 'malformed' });
    const read = (): void => {
      for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) {
        octets = octets.length === 0 ? chunk : Buffer.concat([octets, chunk]);
        const header = parseProxyHeader(octets);
        if (header.kind === 'partial') continue;
        end(header);
        break;
      }
    };
    const end = (header: Exclude<ProxyHeader, { kind: 'partial' }>): void => {
      socket.off('readable', read).off('close', gone).off('end', gone).off('error', gone);
      // A late error of a socket that nobody reads is nobody's concern.
      if (header.kind === 'malformed') socket.on('error', () => undefined);
      else if (octets.length > header.length) socket.unshift(octets.subarray(header.length));
      if (header.kind === 'malformed') resolve(undefined);
      else resolve(header.source ? { source: header.source } : {});
    };
    socket.on('readable', read).on('close', gone).on('end', gone).on('error', gone);
  });
}
