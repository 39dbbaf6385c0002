/** A thread that asks the same names again and again over UDP, some at once, and misses no answer. */
import { createSocket } from 'node:dgram';
import { parentPort, workerData } from 'node:worker_threads';
import { decode } from 'dns-packet';
import { queryPacket } from '../unit/dnsbl-fixtures.ts';

export type Asking = {
  at: { host: string; port: number };
  /** Each with all that may be said of it: addresses, `NXDOMAIN`. */
  names: [name: string, says: string[]][];
  stop: SharedArrayBuffer;
};

export type Asked = { asked: number; answered: number; wrong: string[]; slowestMs: number };

/** Under way at once. */
const WINDOW = 8;
const PATIENCE_MS = 3000;

const { at, names, stop } = workerData as Asking;
const stopped = new Int32Array(stop);
const socket = createSocket('udp4');
const sent = new Map<number, { index: number; atMs: number }>();
const result: Asked = { asked: 0, answered: 0, wrong: [], slowestMs: 0 };
const packets = names.map(([name]) => queryPacket(name, 'A'));

socket.on('message', (message) => {
  const id = message.readUInt16BE(0);
  const question = sent.get(id);
  if (question === undefined) return;
  sent.delete(id);
  result.answered += 1;
  result.slowestMs = Math.max(result.slowestMs, performance.now() - question.atMs);
  const [name, says] = names[question.index]!;
  const said = saidOf(message);
  if (!says.includes(said) && result.wrong.length < 10) result.wrong.push(`${name} ${said}`);
  if (Atomics.load(stopped, 0) === 0) ask();
  else if (sent.size === 0) end();
});
for (let window = 0; window < WINDOW; window++) ask();
parentPort!.postMessage('ready');
const watch = setInterval(() => {
  if (Atomics.load(stopped, 0) === 0) return;
  clearInterval(watch);
  setTimeout(end, PATIENCE_MS).unref();
}, 20);

function ask(): void {
  const index = result.asked % names.length;
  const id = result.asked & 0xffff;
  result.asked += 1;
  sent.set(id, { index, atMs: performance.now() });
  const packet = Buffer.from(packets[index]!);
  packet.writeUInt16BE(id);
  socket.send(packet, at.port, at.host);
}

function end(): void {
  parentPort!.postMessage(result);
  clearInterval(watch);
  socket.close();
}

function saidOf(message: Buffer): string {
  const { answers = [], ...rest } = decode(message);
  const [first] = answers;
  return first?.type === 'A' ? first.data : (rest as unknown as { rcode: string }).rcode;
}
