/** Reads a zone's files in a thread of its own, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { readZone, type ZoneFiles } from './read-zone.ts';

if (!parentPort) throw new Error('load-thread.ts runs as a worker thread only');
parentPort.postMessage(readZone(workerData as ZoneFiles));
