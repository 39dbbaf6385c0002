/** The list server alone (`atmos dns`) and rbldnsd, on the same files: when they answer, what they hold. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, encode } from 'dns-packet';
import { freePort } from '../../free-port.ts';
import { treesOf } from '../processes.ts';
import { messageOf, remember, startForeign, stop } from '../relay/children.ts';
import { apex, type DataFiles } from './data.ts';

const atmos = join(import.meta.dirname, '../../../node/atmos.js');
const patienceMs = 120_000;

export type Running = { port: number; pid: number; child: ChildProcess; log: string; seconds: number };

/** @param known a name that is listed. `seconds`: from the start of the process to its answer */
export async function startOurs(files: DataFiles, folder: string, known: string): Promise<Running> {
  const port = await freePort();
  const log = join(folder, 'atmos-dns.log');
  const began = performance.now();
  const words = ['--listen', `127.0.0.1:${port}`, '--apex', apex, '--poll', '0', '--workers', '1'];
  const zones = ['--zone', `dom=${files.dom}`, '--zone', `ip=${files.ip}`];
  const fd = openSync(log, 'w');
  const child = remember(
    spawn(process.execPath, [atmos, 'dns', ...words, ...zones], {
      stdio: ['ignore', 'ignore', fd, 'ipc'],
      detached: true,
    }),
  );
  closeSync(fd);
  await messageOf(child, patienceMs, 'our list server');
  await untilListed(port, known);
  return { port, pid: child.pid!, child, log, seconds: (performance.now() - began) / 1000 };
}

export async function startRbldnsd(files: DataFiles, folder: string, known: string): Promise<Running> {
  const port = await freePort();
  const log = join(folder, 'rbldnsd.log');
  const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  const zones = [`dom.${apex}:dnset:${files.dom}`, `ip.${apex}:ip4set:${files.ip}`];
  const began = performance.now();
  const child = startForeign({
    command: ['rbldnsd', '-n', '-a', '-c', '0', '-b', `127.0.0.1/${port}`, ...user, ...zones],
    logFile: log,
  });
  await untilListed(port, known);
  return { port, pid: child.pid!, child, log, seconds: (performance.now() - began) / 1000 };
}

export const stopServer = ({ child }: Running) => stop(child);

/** Has it read its files again. @returns seconds until the new ones answer */
export async function reload({ pid, log }: Running): Promise<number> {
  const loaded = () => readFileSync(log, 'utf8').split('DNS zone files loaded').length;
  const before = loaded();
  const began = performance.now();
  process.kill(pid, 'SIGHUP');
  while (loaded() === before) {
    if (performance.now() - began > patienceMs) throw new Error('the reload did not end');
    await sleep(20);
  }
  return (performance.now() - began) / 1000;
}

/** Resident now, in MB. */
export function residentMb(pid: number): number {
  return treesOf([pid]).reduce((sum, one) => sum + statusMb(one, 'VmRSS'), 0);
}

/** The most that was resident since resetPeak(), in MB. */
export function peakMb(pid: number): number {
  return statusMb(pid, 'VmHWM');
}

export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

function statusMb(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) / 1024;
}

async function untilListed(port: number, known: string): Promise<void> {
  const began = performance.now();
  while (!(await isListed(port, `${known}.dom.${apex}`))) {
    if (performance.now() - began > patienceMs) throw new Error(`port ${port} does not answer`);
  }
}

async function isListed(port: number, name: string): Promise<boolean> {
  const socket = createSocket('udp4');
  try {
    socket.connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.send(encode({ type: 'query', id: 1, questions: [{ name, type: 'A' }] }));
    const [message] = (await once(socket, 'message', { signal: AbortSignal.timeout(50) })) as [Buffer];
    return (decode(message).answers?.length ?? 0) > 0;
  } catch {
    // Nothing listens there yet, or it is silent.
    await sleep(10);
    return false;
  } finally {
    socket.close();
  }
}
