/** What the owner's thread and an answering thread tell each other. */
import type { AccessShare } from './access/share.ts';
import type { ThreadSetup } from './responder.ts';
import type { ZoneShare } from './table/share.ts';
import type { ListenAddress } from './udp.ts';

export type UdpPath = 'dgram' | 'native';

export type WorkerSetup = {
  thread: ThreadSetup;
  listen: ListenAddress[];
  path: UdpPath;
  reusePort: boolean;
  maxUdpSends: number;
};

export type ToWorker =
  /** A zone's new table. */
  | { kind: 'zone'; share: ZoneShare }
  /** New settings. */
  | { kind: 'access'; share: AccessShare }
  | { kind: 'stop' };

export type FromWorker =
  /** All addresses are bound, and answers go out. */
  | { kind: 'ready' }
  /** An address could not be bound; the thread ends. */
  | { kind: 'unbound'; message: string; code: string | undefined }
  | { kind: 'fault'; error: string; packetHex: string };
