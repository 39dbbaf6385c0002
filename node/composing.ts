/** What each part of the composition root is given (node.ts). */
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import type { Count } from './metrics.ts';
import type { Stops } from './stopping.ts';

export type Composing = {
  config: Config;
  /** In which order all that was started is stopped. */
  stops: Stops;
  log: Logger;
  count: Count;
  /** Milliseconds since the epoch. */
  now: () => number;
};
