/**
 * `npm start`: the sandbox, or the real node when there is a configuration.
 *
 *   node test/sandbox/main.ts [--fresh | --join] [--warming] [--port-offset N] [--state DIR]
 *
 * Ctrl-C stops everything within 5 s. Exit codes: 0 stopped when asked, 1 something failed, 2 it could
 * not begin (taken ports, wrong arguments).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { compileCache } from './compile-cache.ts';
import { explainTaken, maxOffset, portsAt, probe, probeNewcomer } from './ports.ts';
import { guide, stepLine, title } from './screen.ts';

const root = join(import.meta.dirname, '../..');
/** Leaves a little of the promised 5 s. */
const stopDeadlineMs = 4_700;

const usage = 'npm start -- [--fresh | --join] [--warming] [--port-offset N] [--state DIR] | --config FILE';

process.exit(await main(process.argv.slice(2)));

async function main(argv: string[]): Promise<number> {
  const options = readArguments(argv);
  if ('wrong' in options) return refuse(`${options.wrong}\nUsage: ${usage}`);
  if (options.config !== undefined || existsSync('atmos.jsonc'))
    return startNode(options.config ?? 'atmos.jsonc');

  if (options.join) return runNewcomer(options);
  const taken = await probe(portsAt(options.portOffset));
  if (taken.length > 0) return refuse(explainTaken(taken, options.portOffset));
  return runSandbox(options);
}

type Arguments = {
  fresh: boolean;
  join: boolean;
  warming: boolean;
  portOffset: number;
  state?: string;
  config?: string;
};

function readArguments(argv: string[]): Arguments | { wrong: string } {
  try {
    const { values } = parseArgs({
      args: argv,
      options: {
        fresh: { type: 'boolean', default: false },
        join: { type: 'boolean', default: false },
        warming: { type: 'boolean', default: false },
        'port-offset': { type: 'string', default: '0' },
        state: { type: 'string' },
        config: { type: 'string' },
      },
    });
    const portOffset = Number(values['port-offset']);
    if (!Number.isInteger(portOffset) || portOffset < 0 || portOffset > maxOffset) {
      return {
        wrong: `--port-offset ${values['port-offset']} is not a whole number from 0 to ${maxOffset}.`,
      };
    }
    return { ...values, portOffset };
  } catch (error) {
    return { wrong: (error as Error).message };
  }
}

function refuse(message: string): number {
  console.error(message);
  return 2;
}

/** With a configuration, `npm start` is `atmos start`. */
async function startNode(config: string): Promise<number> {
  const child = spawn(join(root, 'node/atmos.js'), ['start', '--config', config], { stdio: 'inherit' });
  // Ctrl-C reaches the child by itself; it decides when it is done.
  process.on('SIGINT', () => undefined).on('SIGTERM', () => child.kill('SIGTERM'));
  const [code, signal] = await once(child, 'exit');
  return signal ? 1 : code;
}

function folderOf({ state, portOffset }: Arguments): string {
  if (state) return resolve(state);
  return join(root, 'state', portOffset === 0 ? 'sandbox' : `sandbox-${portOffset}`);
}

/** The third cooperative, beside a sandbox that runs. */
async function runNewcomer(options: Arguments): Promise<number> {
  const taken = await probeNewcomer(options.portOffset);
  if (taken.length > 0) return refuse(explainTaken(taken, options.portOffset));
  const { joinWorld } = await import('./join.ts');
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => interruption.abort());
  try {
    await joinWorld({ ...options, folder: folderOf(options), signal: interruption.signal });
    return 0;
  } catch (error) {
    if (interruption.signal.aborted) return 0;
    console.error(`Dune has stopped: ${(error as Error).message}`);
    return 1;
  }
}

async function runSandbox(options: Arguments): Promise<number> {
  const { fresh, warming, portOffset } = options;
  const began = performance.now();
  enableCompileCache(compileCache);
  const interruption = new AbortController();
  let failure: string | undefined;
  // A part that hangs does not keep the person waiting; a node without its parent stops by itself.
  interruption.signal.onabort = () => setTimeout(() => process.exit(1), stopDeadlineMs).unref();
  const onEnd = (reason: string) => {
    failure ??= reason;
    interruption.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => interruption.abort());

  console.log(title);
  const { startSandbox } = await import('./sandbox.ts');
  try {
    const folder = folderOf(options);
    const onStep = (step: Parameters<typeof stepLine>[0]) => console.log(stepLine(step));
    const sandbox = await startSandbox({
      folder,
      portOffset,
      fresh,
      warming,
      onStep,
      onEnd,
      signal: interruption.signal,
    });
    console.log(guide(sandbox.world, sandbox.worldFile));
    releaseMemory();
    console.log(`ready in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    if (!interruption.signal.aborted) await once(interruption.signal, 'abort');
    await sandbox.stop();
  } catch (error) {
    if (!interruption.signal.aborted) failure = (error as Error).message;
  }
  if (failure !== undefined) {
    console.error(`\nThe sandbox has stopped: ${failure}`);
    console.error('Should this world be damaged: npm start -- --fresh makes a new one in its place.');
  }
  return failure === undefined ? 0 : 1;
}

/** What only the start needed, some 40 MB, goes now and not when V8 finds the time. */
function releaseMemory(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (how: { type: 'major'; flavor: 'last-resort' }) => void;
  collect({ type: 'major', flavor: 'last-resort' });
}
