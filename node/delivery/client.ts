/**
 * What is asked of the SMTP client and what it answers: one session, one message, one outcome.
 *
 * session.ts opens, session-transaction.ts carries the messages, session-tls.ts meets the demand.
 * Every outcome is a value; only `delivered` means that the peer said 2yz after the final dot.
 */
import type { TlsaRecord } from '../resolver.ts';
import type { TlsFacts } from '../spool/message.ts';
import type { Stage } from './reply.ts';

export type { TlsFacts } from '../spool/message.ts';

export type TlsPolicy = 'required' | 'opportunistic';

/** What a host's TLS must be before a message is entrusted to it. */
export type TlsDemand =
  /** Encrypted where it works, else plain. */
  | { kind: 'opportunistic' }
  /** Any certificate will do. */
  | { kind: 'encrypted' }
  /** Chain to a public root, valid for one of the names. */
  | { kind: 'verified'; why: 'mta-sts' | 'requiretls'; names: readonly string[] }
  /** A certificate that a TLSA record vouches for (RFC 7672); `names` are the reference identifiers of usage 2. */
  | { kind: 'dane'; names: readonly string[]; records: readonly TlsaRecord[] };

export type Target = { name: string; address: string; port: number };

/** RFC 3461: what the member asked of notifications, handed on. Decoded values, no xtext. */
export type DsnWish = {
  ret?: 'full' | 'hdrs';
  envid?: string;
  notify?: readonly ('success' | 'failure' | 'delay' | 'never')[];
  /** `rfc822;address`. */
  orcpt?: string;
};

export type Outgoing = {
  from: string;
  to: string;
  /** All bytes, prepended lines included. */
  message: Buffer;
  /** Octets above 127 in the header: RFC 6531 §3.4 asks for SMTPUTF8. */
  utf8Header: boolean;
  /** Octets above 127 anywhere. */
  eightBit: boolean;
  /** RFC 8689: only to a host that offers REQUIRETLS, over a verified session. */
  requireTls?: boolean;
  dsn?: DsnWish;
};

/** An open connection that carries one message after another. */
export interface Session {
  readonly tls?: TlsFacts;
  /** False once the connection ended or is out of step; a new message needs another session then. */
  readonly isUsable: boolean;
  /** One at a time: the next only when this one has its outcome. Never rejects but for a bug. */
  deliver(outgoing: Outgoing, signal: AbortSignal): Promise<Outcome>;
  /** QUIT, and the end of the connection within a second. */
  close(): void;
}

export type Outcome =
  /** `relayed`: the peer offers DSN and got the member's wishes (RFC 3461); where false, nobody after us will report success. */
  | { kind: 'delivered'; reply: string; tls?: TlsFacts; relayed: boolean }
  /** The peer said 4yz or 5yz. */
  | { kind: 'refused'; stage: Stage; reply: string; tls?: TlsFacts }
  /** The peer does not offer what the message needs. */
  | { kind: 'unfit'; status: string; summary: string; tls?: TlsFacts }
  /** No reply to go by: not connected, timed out, closed, TLS failed. `reached`: the destination had a part in it. */
  | { kind: 'broken'; stage: Stage; reached: boolean; summary: string; status?: string }
  /** We were told to stop before an outcome was known. */
  | { kind: 'aborted' };

export type Timeouts = {
  connectMs: number;
  /** From the connection to the end of STARTTLS. */
  sessionMs: number;
  /** Silence of the peer within the transaction. */
  idleMs: number;
  /** Everything, against a peer that drips. */
  totalMs: number;
};

/** RFC 5321 §4.5.3.2: five minutes for a greeting, ten for the reply to the final dot. */
export const defaultTimeouts: Timeouts = {
  connectMs: 30_000,
  sessionMs: 5 * 60_000,
  idleMs: 10 * 60_000,
  totalMs: 20 * 60_000,
};
