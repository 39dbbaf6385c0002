/** The servers that are compared: Debian's rbldnsd, and ours on both paths. */
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { needsNativeDns } from '../../native-dns.ts';
import { needs } from '../../peers.ts';
import { asAtmos } from '../as-atmos.ts';
import { treesOf } from '../processes.ts';
import { messageOf, run, startForeign, startProgram, stop } from '../relay/children.ts';
import { apex, type Mix, zoneFiles } from './data.ts';
import type { ListServerOptions } from './list-server.ts';

export type Server = {
  key: string;
  name: string;
  /** The reason why it cannot run here. */
  missing(): string | false;
  /** @param dir holds the zone files */
  start(dir: string, mix: Mix): Promise<RunningServer>;
};

export type RunningServer = {
  port: number;
  /** Its process; that one's children count too. */
  pid: number;
  stop(): Promise<void>;
};

/** For a look at our own process: `ATMOS_BENCH_NODE_FLAGS='--cpu-prof --cpu-prof-dir=/tmp/prof'`. */
const nodeFlags = process.env.ATMOS_BENCH_NODE_FLAGS?.split(' ') ?? [];

export const rbldnsd: Server = {
  ...{ key: 'rbldnsd', name: 'rbldnsd' },
  missing: () => needs('rbldnsd'),
  async start(dir) {
    const port = await freePort();
    // -a: as we do, it leaves the name servers out of answers that nobody asked them of.
    const options = ['-n', '-a', '-w', dir, '-b', `127.0.0.1/${port}`];
    const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
    const zones = [`dom.${apex}:dnset:${zoneFiles.dom}`, `ip.${apex}:ip4set:${zoneFiles.ip}`];
    const child = startForeign({
      command: ['rbldnsd', ...options, ...user, ...zones],
      logFile: join(dir, 'rbldnsd.log'),
    });
    return running(child, port);
  },
};

export const oursDgram = ours('dgram', () => false);
export const oursNative = ours('native', needsNativeDns);

function ours(sockets: 'dgram' | 'native', missing: Server['missing']): Server {
  return {
    ...{ key: sockets, name: `ours, ${sockets}`, missing },
    async start(dir, mix) {
      const options: ListServerOptions = {
        ...{ apex, sockets, isUnreachable: mix === 1 },
        sources: [
          { subtree: 'dom', form: 'dnset', file: join(dir, zoneFiles.dom) },
          { subtree: 'ip', form: 'ip4set', file: join(dir, zoneFiles.ip) },
        ],
      };
      const { env, flags } = asAtmos();
      const child = startProgram('../dns/list-server.ts', [JSON.stringify(options)], {
        env,
        flags: [...flags, ...nodeFlags],
      });
      return running(child, await messageOf<number>(child, 30_000, 'our list server'));
    },
  };
}

function running(child: ChildProcess, port: number): RunningServer {
  return { port, pid: child.pid!, stop: () => stop(child) };
}

/** All threads of a server and of its children, those to come too. */
export async function pin({ pid }: RunningServer, core: number): Promise<void> {
  for (const one of treesOf([pid])) await run('taskset', '-a', '-p', '-c', String(core), String(one));
}

/** Of all threads that live, in user and kernel mode (proc(5), schedstat: nanoseconds on a core). */
export function cpuUsOf({ pid }: RunningServer): number {
  let us = 0;
  for (const one of treesOf([pid])) {
    for (const task of readdirSync(`/proc/${one}/task`)) {
      try {
        us += Number(readFileSync(`/proc/${one}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1000;
      } catch {
        // It ended while we looked.
      }
    }
  }
  return us;
}
