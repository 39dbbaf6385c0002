/** The native sockets, where they were built; else why not. What the functions promise stands in batch.c. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Packets of one system call; all arrays below have room for so many. */
export const BATCH = 64;
/** Of a packet in `packets`: its octets, or -1 where it was longer than its room; 4 or 6; the port. */
export const PACKET_WORDS = 3;
/** Of a packet's client in `addresses`; of an IPv4 address the first four. */
export const ADDRESS_OCTETS = 16;
/** Of an answer in `spans`: where it stands in `output`, and its octets; 0 for none. */
export const SPAN_WORDS = 2;

declare const batch: unique symbol;
export type Batch = { [batch]: true };

export type BatchAddon = {
  open(): Batch;
  /** @returns the port, or -errno */
  bind(batch: Batch, host: string, port: number, reusePort: boolean, receiveBufferOctets: number): number;
  /** Waits up to `timeoutMs`. @returns how many packets; each stands in its 64th of `input` */
  receive(
    batch: Batch,
    input: Uint8Array,
    packets: Int32Array,
    addresses: Uint8Array,
    timeoutMs: number,
  ): number;
  /** Answers the packets of the last receive. @returns how many answers could not be sent */
  send(batch: Batch, output: Uint8Array, spans: Int32Array): number;
  close(batch: Batch): void;
};

export const nativeDir = import.meta.dirname;
export const sourceFile = join(nativeDir, 'batch.c');
export const addonFile = join(nativeDir, 'build', 'batch.node');
/** Why the last build brought nothing: one line. */
export const failureFile = join(nativeDir, 'build', 'failed.txt');

/** Of what an addon must have been built from. */
export function sourceHash(): string {
  return createHash('sha256').update(readFileSync(sourceFile)).digest('hex').slice(0, 16);
}

/** @returns the addon, or one line that names why there is none */
export function loadAddon(): { addon: BatchAddon } | { why: string } {
  if (process.platform !== 'linux') return { why: `recvmmsg is not on ${process.platform}` };
  if (!existsSync(addonFile)) return { why: whyNotBuilt() };
  try {
    const addon: BatchAddon & { sourceHash: string } = createRequire(import.meta.url)(addonFile);
    if (addon.sourceHash === sourceHash()) return { addon };
    return { why: 'built from another batch.c: npm run build:native' };
  } catch (error) {
    return { why: `does not load: ${error instanceof Error ? error.message : error}` };
  }
}

function whyNotBuilt(): string {
  const failure = existsSync(failureFile) ? `: ${readFileSync(failureFile, 'utf8').trim()}` : '';
  return `not built${failure} (npm run build:native)`;
}
