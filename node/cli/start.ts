/**
 * `atmos start`: runs one node until SIGTERM or SIGINT, then stops it in order. SIGHUP reads again what of
 * the configuration may change while it runs, SIGUSR2 exports the list (SIGUSR1 is Node's own, for its debugger).
 *
 * A failure of our own state ends the process with a message; a supervisor starts it again.
 */
import { type Logger, pino } from 'pino';
import { type Config, readConfig } from '../config.ts';
import { Node } from '../node.ts';

/** After this long a stop is cut short: what was accepted is on disk anyway. */
const stopDeadlineMs = 12_000;

/** Resolves when the node has stopped. @throws ConfigError; Error when a port is taken or state is corrupt */
export async function start(configFile: string): Promise<void> {
  const config = readConfig(configFile);
  const log = logger(config);
  const node = new Node(config, log);
  endOnBugs(log);
  // Before the start: a signal without a handler kills.
  process.on('SIGHUP', () => {
    node.reload().catch((err: Error) => log.error({ err }, 'configuration not read again'));
  });
  process.on('SIGUSR2', () => {
    node.exportZone().catch((err: Error) => log.error({ err }, 'DNS zone not exported'));
  });
  let isStopping = false;
  const stopped = stopSignal().then(async (signal) => {
    isStopping = true;
    log.info({ signal }, 'stopping');
    const timer = setTimeout(() => {
      log.error('the stop took too long and is cut short');
      process.exit(1);
    }, stopDeadlineMs);
    await node.stop();
    clearTimeout(timer);
    log.info('stopped');
  });
  await node.start();
  if (!isStopping) {
    log.info({ did: config.did, web: config.listen.web }, 'ready');
    process.send?.('ready');
  }
  await stopped;
}

/** Lines are written some at a time, at most 200 ms late; a fatal one at once, with all before it. */
function logger(config: Config): Logger {
  const standardError = pino.destination({ dest: 2, sync: true, minLength: 4096, periodicFlush: 200 });
  process.on('exit', () => standardError.flushSync());
  return pino({ level: config.log.level, base: { node: config.name } }, standardError);
}

/** A bug, or state of ours that is corrupt: going on would make it worse. What was accepted is on disk. */
function endOnBugs(log: Logger): void {
  const end = (error: unknown) => {
    log.fatal({ err: error }, 'the node stops');
    process.exit(1);
  };
  process.on('uncaughtException', end).on('unhandledRejection', end);
}

/** A second signal while stopping ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked) process.exit(130);
      asked = true;
      resolve(signal);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
    // The sandbox starts nodes with an IPC channel: when it dies, nothing is left running.
    process.on('disconnect', () => onSignal('SIGTERM'));
  });
}
