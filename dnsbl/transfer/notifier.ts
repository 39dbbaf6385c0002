/**
 * Tells secondaries that a zone changed (RFC 1996), so that they ask at once instead of every 15 minutes.
 *
 * Promise: each secondary is told of the newest serial soon after a change, at most once in a second, and
 * again with growing distances until it acknowledges or the tries are used up; then the next change
 * begins again, at the longest distance. One datagram is under way for each zone and secondary at most.
 *
 * Counters: `dns_notify` {sent, acknowledged, rejected, unanswered, ignored, send_failed}.
 */
import { randomInt } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIP, SocketAddress } from 'node:net';
import type { Logger } from 'pino';
import { hostKey } from '../name.ts';
import { TYPE } from '../records.ts';
import { CLASS_IN } from '../wire.ts';
import type { Zone } from '../zone.ts';
import type { Keyring, RingKey } from './keys.ts';
import type { TransferLimits } from './limits.ts';
import { HEADER_OCTETS, recordsIn } from './message-records.ts';
import { readTsig, Signer, verify } from './tsig.ts';

const NOTIFY_AUTHORITATIVE = 0x2400;
const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const NOTIFY = 0x2000;
const RCODE_BITS = 0xf;

export type Secondary = {
  /** An address. */
  host: string;
  /** Default 53. */
  port?: number;
  /** The name of the TSIG key with which notifications are signed, and their acknowledgements. */
  key?: string;
};

export type NotifierOptions = {
  zones: readonly Zone[];
  /** By apex. */
  notify: ReadonlyMap<string, readonly Secondary[]>;
  keyring: Keyring;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  limits: TransferLimits;
};

export class Notifier {
  readonly #options: NotifierOptions;
  readonly #targets: readonly Target[];
  readonly #sockets = new Map<4 | 6, Socket>();

  /** @throws RangeError for what is no address, port or key of the ring */
  constructor(options: NotifierOptions) {
    const send = (datagram: Buffer, peer: Peer) => this.#send(datagram, peer);
    this.#options = options;
    this.#targets = options.zones.flatMap((zone) =>
      (options.notify.get(zone.apex) ?? []).map(
        (secondary) => new Target({ ...options, zone, peer: peerOf(secondary, options.keyring), send }),
      ),
    );
  }

  changed(apex: string): void {
    for (const target of this.#targets) if (target.apex === apex) target.changed();
  }

  async stop(): Promise<void> {
    for (const target of this.#targets) target.stop();
    const sockets = [...this.#sockets.values()];
    this.#sockets.clear();
    await Promise.all(sockets.map((socket) => new Promise<void>((done) => socket.close(done))));
  }

  #send(datagram: Buffer, { family, host, port }: Peer): void {
    this.#socket(family).send(datagram, port, host, (error) => {
      if (error) this.#options.count('dns_notify', 'send_failed');
    });
  }

  #socket(family: 4 | 6): Socket {
    const known = this.#sockets.get(family);
    if (known) return known;
    const socket = createSocket({ type: family === 6 ? 'udp6' : 'udp4' });
    socket.on('error', () => this.#options.count('dns_notify', 'send_failed'));
    socket.on('message', (message, from) => this.#receive(message, from));
    socket.unref();
    this.#sockets.set(family, socket);
    return socket;
  }

  #receive(message: Buffer, { address, port }: RemoteInfo): void {
    const isTaken = this.#targets.some(
      (target) => target.isFrom(address, port) && target.acknowledge(message),
    );
    if (!isTaken) this.#options.count('dns_notify', 'ignored');
  }
}

type Peer = { family: 4 | 6; host: string; port: number; key: RingKey | undefined };

function peerOf({ host, port = 53, key }: Secondary, keyring: Keyring): Peer {
  const family = isIP(host);
  if (family === 0) throw new RangeError(`${host} is no address: a secondary is named by its address`);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`${port} is no port`);
  // In the form in which the kernel gives it back.
  const { address } = new SocketAddress({ address: host, family: family === 6 ? 'ipv6' : 'ipv4' });
  return {
    family: family as 4 | 6,
    host: address,
    port,
    key: key === undefined ? undefined : keyring.named(key),
  };
}

type TargetOptions = NotifierOptions & {
  zone: Zone;
  peer: Peer;
  send: (datagram: Buffer, peer: Peer) => void;
};

/** One secondary of one zone. */
class Target {
  readonly apex: string;
  readonly #options: TargetOptions;
  /** Sent since the last acknowledgement. */
  #tries = 0;
  #isSilent = false;
  #sentMs = Number.NEGATIVE_INFINITY;
  #sent: { id: number; serial: number; mac: Buffer | undefined } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: TargetOptions) {
    this.apex = options.zone.apex;
    this.#options = options;
  }

  isFrom(address: string, port: number): boolean {
    return this.#options.peer.host === address && this.#options.peer.port === port;
  }

  changed(): void {
    if (this.#isStopped || this.#timer) return;
    const waitMs = this.#sentMs + this.#distanceMs() - performance.now();
    this.#timer = setTimeout(() => this.#notify(), Math.max(0, waitMs)).unref();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** @returns false for what is no answer to what was sent, or is not signed as it should be */
  acknowledge(message: Buffer): boolean {
    const { count, log, zone, peer } = this.#options;
    if (!this.#sent || !this.#isAnswer(message, this.#sent)) return false;
    const { serial } = this.#sent;
    const rcode = message.readUInt16BE(2) & RCODE_BITS;
    count('dns_notify', rcode === 0 ? 'acknowledged' : 'rejected');
    // It answered, so asking it again would change nothing; it will ask by itself in time.
    if (rcode !== 0)
      log.warn({ zone: zone.apex, secondary: peer.host, rcode }, 'a secondary refuses notifications');
    this.#sent = undefined;
    this.#tries = 0;
    this.#isSilent = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (serial !== zone.serial) this.changed();
    return true;
  }

  #isAnswer(message: Buffer, sent: { id: number; mac: Buffer | undefined }): boolean {
    const { peer, keyring, now } = this.#options;
    if (message.length < HEADER_OCTETS || message.readUInt16BE(0) !== sent.id) return false;
    const flags = message.readUInt16BE(2);
    if ((flags & RESPONSE) === 0 || (flags & OPCODE) !== NOTIFY) return false;
    if (!peer.key) return true;
    const tsig = readTsig(message, recordsIn(message));
    if (typeof tsig === 'string') return false;
    const verdict = verify(message, tsig, keyring, now(), sent.mac);
    return verdict.kind === 'valid' && verdict.key === peer.key;
  }

  #notify(): void {
    const { zone, peer, send, count, now, limits, log } = this.#options;
    this.#timer = undefined;
    const id = randomInt(2 ** 16);
    const signer = peer.key && new Signer(peer.key, undefined, now);
    const message = notification(zone, id);
    send(signer ? signer.sign(message) : message, peer);
    count('dns_notify', 'sent');
    this.#sent = { id, serial: zone.serial, mac: signer?.mac };
    this.#sentMs = performance.now();
    // At its highest it stays, and the next change means one more try at the longest distance.
    this.#tries = Math.min(this.#tries + 1, limits.notifyTries);
    if (this.#tries < limits.notifyTries) this.changed();
    else if (!this.#isSilent) {
      this.#isSilent = true;
      count('dns_notify', 'unanswered');
      log.warn({ zone: zone.apex, secondary: peer.host }, 'a secondary does not answer notifications');
    }
  }

  #distanceMs(): number {
    const { notifyIntervalMs, notifyRetryMs, notifyMaxRetryMs } = this.#options.limits;
    if (this.#tries === 0) return notifyIntervalMs;
    return Math.min(notifyRetryMs * 2 ** (this.#tries - 1), notifyMaxRetryMs);
  }
}

/** RFC 1996 §3.7: with the new SOA, so that a secondary need not ask for it first. */
function notification(zone: Zone, id: number): Buffer {
  const { ttl, rdatas } = zone.soa();
  const rdata = rdatas[0]!;
  const name = Buffer.from(`${hostKey(zone.apex)}\0`, 'latin1');
  const question = Buffer.from([0, TYPE.SOA, 0, CLASS_IN]);
  const head = Buffer.alloc(HEADER_OCTETS);
  [id, NOTIFY_AUTHORITATIVE, 1, 1].forEach((value, index) => {
    head.writeUInt16BE(value, 2 * index);
  });
  const record = Buffer.alloc(12);
  record.writeUInt16BE(0xc000 | HEADER_OCTETS, 0);
  record.set(question, 2);
  record.writeUInt32BE(ttl, 6);
  record.writeUInt16BE(rdata.length, 10);
  return Buffer.concat([head, name, question, record, rdata]);
}
