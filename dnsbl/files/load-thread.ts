/** Reads a zone's files in a thread of its own, and ends. */
import { getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { type LoadOrder, readZone } from './read-zone.ts';

/** Behind who answers, but not behind whatever else the machine has to do. */
const BESIDE = 5;
const LAST = 19;

if (!parentPort) throw new Error('load-thread.ts runs as a worker thread only');
const { files, half, isBeside }: LoadOrder = workerData;
// Linux alone has a priority for each thread, and gives the caller's when asked for no other process.
if (isBeside && process.platform === 'linux') setPriority(Math.min(getPriority() + BESIDE, LAST));
parentPort.postMessage(readZone(files, half));
