/** What a listener that does not come up says to an operator. */
import type { HostPort } from './config.ts';

/** @throws Error that says which key of the configuration a taken or forbidden port was for */
export async function named<T>(key: string, { host, port }: HostPort, listening: Promise<T>): Promise<T> {
  try {
    return await listening;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      EADDRINUSE: 'another program has it. Stop that one, or change the port',
      EACCES: 'this user may not listen on ports below 1024',
      EADDRNOTAVAIL: 'this machine does not have that address',
    };
    throw new Error(`"${key}" ${host}:${port}: ${why[code ?? ''] ?? message}.`, { cause: error });
  }
}
