/**
 * One answering thread: UDP on all addresses, from tables in shared memory.
 *
 * A new table is in the next answer: the message that brings it is taken before a packet is answered,
 * not when the event loop comes to it.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { ThreadMetrics } from './metrics.ts';
import { loadAddon } from './native/addon.ts';
import { type Fault, Responder } from './responder.ts';
import { letGo } from './table/letting-go.ts';
import type { ZoneShare } from './table/share.ts';
import { UdpEndpoint } from './udp.ts';
import { UdpBatch } from './udp-batch.ts';
import type { FromWorker, ToWorker, WorkerSetup } from './worker-protocol.ts';

if (!parentPort) throw new Error('worker.ts runs as a worker thread only');
const owner = parentPort;
const { thread, listen, path, reusePort, maxUdpSends }: WorkerSetup = workerData;
const counters = new ThreadMetrics(thread.counters);
const responder = new Responder({ setup: thread, counters, newest, onFault });
const closes: (() => Promise<void>)[] = [];

owner.on('message', (message: ToWorker) => {
  if (message.kind === 'zone') {
    responder.replace(message.share);
    letGo(message.share);
  } else take(message);
});
try {
  if (path === 'native') startBatch();
  else await startDatagram();
  tell({ kind: 'ready' });
} catch (error) {
  const { message, code } = error as NodeJS.ErrnoException;
  tell({ kind: 'unbound', message, code });
  await end();
}

function startBatch(): void {
  const loaded = loadAddon();
  if ('why' in loaded) throw new Error(`native DNS sockets: ${loaded.why}`);
  const sockets = new UdpBatch({ addon: loaded.addon, responder, counters, reusePort });
  closes.push(() => sockets.close());
  sockets.listen(listen);
  sockets.start();
}

async function startDatagram(): Promise<void> {
  for (const address of listen) {
    const socket = new UdpEndpoint(address, { responder, counters, maxUdpSends, reusePort });
    closes.push(() => socket.close());
    await socket.listen();
  }
}

/** Then nothing keeps the thread, and it ends. */
async function end(): Promise<void> {
  await Promise.all(closes.map((close) => close()));
  owner.close();
}

/** What waits at the port: the event loop would bring it later. */
function* newest(): Iterable<ZoneShare> {
  for (;;) {
    const received = receiveMessageOnPort(owner) as { message: ToWorker } | undefined;
    if (received === undefined) return;
    const { message } = received;
    if (message.kind === 'zone') {
      yield message.share;
      letGo(message.share);
    } else take(message);
  }
}

function take(message: Exclude<ToWorker, { kind: 'zone' }>): void {
  if (message.kind === 'access') responder.replaceAccess(message.share);
  else void end();
}

function onFault({ error, packetHex }: Fault): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  tell({ kind: 'fault', error: text, packetHex });
}

function tell(message: FromWorker): void {
  owner.postMessage(message);
}
