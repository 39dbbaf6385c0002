/** What the commands have in common: two options, and who runs them. */
import { userInfo } from 'node:os';
import type { Command } from 'commander';
import { durationMs } from '../duration.ts';

export type Common = { config: string; json?: boolean };

export function common(command: Command): Command {
  return command
    .option('--config <file>', 'the configuration', 'atmos.jsonc')
    .option('--json', 'print data in place of text');
}

/** For `--json`. */
export function print(data: unknown): void {
  console.log(JSON.stringify(data));
}

/** Stands on the timeline of what was done. */
export function whoActs(): string {
  return process.env.SUDO_USER ?? userInfo().username;
}

/** One request to the node that runs with this configuration. @throws ConfigError, ControlError, Error */
export async function callRunning(
  { config }: Pick<Common, 'config'>,
  method: 'GET' | 'POST',
  path: string,
  body?: unknown,
): Promise<unknown> {
  const { readConfig } = await import('../config.ts');
  const { callNode } = await import('../operator/control.ts');
  return callNode(readConfig(config).stateDir, method, path, body);
}

/** @param option for the message. @throws Error for what is no time such as 30m, 2h, 3d */
export function milliseconds(option: string, text: string): number {
  const ms = durationMs(text);
  if (ms === undefined) throw new Error(`${option} ${text}: write it as 30m, 2h or 3d`);
  return ms;
}
