/** What a listener that does not come up says to an operator. */
import type { HostPort } from './config.ts';

/**
 * @param where one address or several
 * @throws Error that says which key of the configuration a taken or forbidden port was for
 */
export async function named<T>(
  key: string,
  where: HostPort | readonly HostPort[],
  listening: Promise<T>,
): Promise<T> {
  try {
    return await listening;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      EADDRINUSE: 'another program has it. Stop that one, or change the port',
      EACCES: 'this user may not listen on ports below 1024',
      EADDRNOTAVAIL: 'this machine does not have that address',
    };
    throw new Error(`"${key}" ${placesOf(error, [where].flat())}: ${why[code ?? ''] ?? message}.`, {
      cause: error,
    });
  }
}

/** The one that the error is about, where it says so. */
function placesOf(error: unknown, all: readonly HostPort[]): string {
  const { address, port } = error as { address?: string; port?: number };
  const known = all.filter((one) => one.host === address && one.port === port);
  return (known.length > 0 ? known : all).map(({ host, port }) => `${host}:${port}`).join(', ');
}
