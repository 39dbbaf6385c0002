/** What happens when our own code throws while a member waits for an answer. */
import type { Logger } from 'pino';
import { isCorruption } from '../appview/database.ts';
import { type Problem, problem } from './errors.ts';

/** Logs, and gives the answer for the member: temporary, without details. */
export function internalError(error: unknown, log: Logger): Problem {
  log.error({ err: error }, 'a submission failed on our side');
  // Corrupt state of our own stops the process: uncaught on purpose, once this answer is on its way.
  if (isCorruption(error)) {
    setImmediate(() => {
      throw error;
    });
  }
  return problem('INTERNAL_ERROR');
}
