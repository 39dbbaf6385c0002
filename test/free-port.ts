/** A port for a foreign program that cannot choose one itself. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Free now on 127.0.0.1, and below the ephemeral range, so that no outgoing connection takes it in between. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return port;
    } catch {
      // Taken.
    } finally {
      server.close();
    }
  }
}
