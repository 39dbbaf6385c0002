/**
 * A TLS demand as options for the handshake, and as a judgement of what the handshake gave.
 *
 * Promise: under `verified` and `dane` nothing of a message is said to a peer whose certificate does not
 * stand the test. `encrypted` and `opportunistic` take any certificate: one that DNS alone vouches for
 * proves no more than the address does (RFC 7435), so only these resume earlier sessions.
 */
import { X509Certificate } from 'node:crypto';
import {
  type ConnectionOptions,
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import type { Target, TlsDemand, TlsFacts } from './client.ts';
import { chainOf, isFor, vouches } from './dane.ts';

type Demanding = Pick<Target, 'name'> & { tls: TlsDemand };

/** Made once: a context of its own for each connection costs more than the handshake. */
const contexts = new WeakMap<readonly string[], SecureContext>();
const publicRoots: readonly string[] = [];

function contextOf(ca: readonly string[] = publicRoots): SecureContext {
  const made = contexts.get(ca);
  if (made) return made;
  const context = createSecureContext({
    minVersion: 'TLSv1.2',

    ...(ca === publicRoots ? {} : { ca: [...ca] }),
  });
  contexts.set(ca, context);
  return context;
}

/** TLS sessions to resume, by host; only those whose certificate nobody has to check again. */
const resumable = new Map<string, { session: Buffer; peer: string | undefined }>();
const maxResumable = 500;

export function tlsOptionsOf({ name, tls }: Demanding, ca: readonly string[] | undefined): ConnectionOptions {
  const options = { secureContext: contextOf(ca), rejectUnauthorized: tls.kind === 'verified' };
  if (tls.kind === 'dane') return { ...options, servername: tls.names[0] };
  if (tls.kind !== 'verified') return { ...options, session: resumable.get(name)?.session };
  const { names } = tls;
  return { ...options, checkServerIdentity: (_host, { raw }: PeerCertificate) => strangerError(raw, names) };
}

/** Saves a part of the next handshake. `peer`: a resumed session shows no certificate again. */
export function rememberSession(socket: TLSSocket, { name, tls }: Demanding, peer: string | undefined): void {
  if (tls.kind === 'dane' || tls.kind === 'verified') return;
  socket.once('session', (session) => {
    resumable.delete(name);
    if (resumable.size >= maxResumable) resumable.delete(resumable.keys().next().value!);
    resumable.set(name, { session, peer });
  });
}

function strangerError(raw: Buffer, names: readonly string[]): Error | undefined {
  return holds(() => isFor(new X509Certificate(raw), names))
    ? undefined
    : new Error(`its certificate is not for ${names.join(' or ')}`);
}

/** What a stranger put into a certificate may be more than Node can read: then it proves nothing. */
function holds(proof: () => boolean): boolean {
  try {
    return proof();
  } catch {
    return false;
  }
}

/** Why nothing may be said over this socket; Node has checked what `verified` asks. */
export function objectionTo(socket: TLSSocket, { tls }: Demanding, now: number): string | undefined {
  if (tls.kind !== 'dane') return undefined;
  const { records, names } = tls;
  const isVouchedFor = () => vouches(records, chainOf(socket.getPeerCertificate(true)), names, now);
  return holds(isVouchedFor) ? undefined : 'no TLSA record matches its certificate';
}

export function factsOf(socket: TLSSocket, { name, tls }: Demanding): TlsFacts {
  return {
    version: socket.getProtocol() ?? 'unknown',
    cipher: socket.getCipher().name,
    policy: tls.kind,
    verified: tls.kind === 'verified' ? tls.why : tls.kind === 'dane' ? 'dane' : undefined,
    peer: socket.isSessionReused() ? resumable.get(name)?.peer : peerOf(socket),
  };
}

/**
 * The first name that it is for, and its SHA-256 fingerprint.
 * Not by getPeerX509Certificate: in Node 24.21 the certificate is gone after the first call.
 */
function peerOf(socket: TLSSocket): string | undefined {
  const { subject, subjectaltname = '', fingerprint256 } = socket.getPeerCertificate();
  if (!fingerprint256) return undefined;
  const [, alternative] = /^DNS:([^,"]{1,253})/.exec(subjectaltname) ?? [];
  const name = (alternative ?? String(subject?.CN ?? '?')).slice(0, 253).replace(/[^!-~]/g, '?');
  return `${name} SHA256:${fingerprint256.replaceAll(':', '').toLowerCase()}`;
}
