/**
 * A process of the benchmark: subscribers that decode every frame, and one that stops reading.
 *
 * Arguments: port, how many read, cursor or `live`. Prints `ready`, then for each line on standard input, a number of
 * labels, what it saw when each reader had so many more: `{ perSecond, p99Ms }`. The latency runs from the `cts`
 * of a label, the whole millisecond in which it was decided, to its decoded frame.
 */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type RawData, WebSocket } from 'ws';
import { decodeFrame, type SignedLabel } from '../../../appview/labels/codec.ts';

const [port, readers, cursor] = [process.argv[2]!, Number(process.argv[3]), process.argv[4]!];
const path = `/xrpc/com.atproto.label.subscribeLabels${cursor === 'live' ? '' : `?cursor=${cursor}`}`;
const connect = async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  await once(socket, 'open');
  return socket;
};

let latencies: number[] = [];
let wanted = Number.POSITIVE_INFINITY;
let done: () => void = () => undefined;
let left = 0;
const stalled = await connect();
stalled.pause();
await Promise.all(Array.from({ length: readers }, read));
console.log('ready');
for await (const line of createInterface(process.stdin))
  console.log(JSON.stringify(await round(Number(line))));
process.exit(0);

async function read(): Promise<void> {
  const socket = await connect();
  let seen = 0;
  socket.on('message', (bytes: RawData) => {
    const frame = decodeFrame(bytes as Buffer);
    if (frame?.kind !== 'labels') throw new Error('not a frame of labels');
    const labels = frame.labels as SignedLabel[];
    if (frame.seq % 10 === 0) latencies.push(Date.now() - Date.parse(labels.at(-1)!.cts));
    seen += labels.length;
    if (seen < wanted) return;
    if (seen > wanted) throw new Error('more labels than there are');
    seen = 0;
    left -= 1;
    if (left === 0) done();
  });
}

async function round(count: number) {
  latencies = [];
  [wanted, left] = [count, readers];
  const all = new Promise<void>((resolve) => {
    done = resolve;
  });
  console.log('go');
  const start = performance.now();
  await all;
  const perSecond = (count * readers * 1_000) / (performance.now() - start);
  const sorted = latencies.sort((a, b) => a - b);
  return { perSecond, p99Ms: sorted[Math.floor(sorted.length * 0.99)]! };
}
