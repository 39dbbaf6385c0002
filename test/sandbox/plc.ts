/**
 * The PLC directory of the sandbox: @did-plc/server over its in-memory database, made durable.
 *
 * Promise: an operation is in the file before it is acknowledged, and a start replays the file, each
 * operation checked as if it were new, with the time it first had. So a second start has the same DIDs.
 * Damage that a crash in mid-write cannot explain stops the start.
 */
import { once } from 'node:events';
import { appendFileSync, readFileSync, truncateSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { Database, type MockDatabase, PlcServer } from '@did-plc/server';

type Operation = Parameters<MockDatabase['validateAndAddOp']>[1];
type StoredOperation = { did: string; operation: Operation; createdAt: string };

/** The file of operations is not ours, or is damaged. */
export class PlcFileDamaged extends Error {
  override name = 'PlcFileDamaged';
}

export class Plc {
  readonly #server: Server;
  /** `http://localhost:PORT`, the form that DIDs and configurations carry. */
  readonly url: string;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  /**
   * @param file JSON lines of operations; made when missing
   * @param port 0 takes a free one
   * @throws PlcFileDamaged
   */
  static async start({ file, port }: { file: string; port: number }): Promise<Plc> {
    const database = Database.mock();
    await replay(database, file);
    keep(database, file);
    // Its own start() listens on every interface.
    const server = createServer(PlcServer.create({ db: database }).app);
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    const { port: bound } = server.address() as { port: number };
    return new Plc(server, `http://localhost:${bound}`);
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }
}

async function replay(database: MockDatabase, file: string): Promise<void> {
  const text = readIfThere(file);
  // A crash in mid-write leaves a last line without its end; it was never acknowledged.
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  if (whole.length < text.length) truncateSync(file, Buffer.byteLength(whole));
  for (const [index, line] of whole.split('\n').slice(0, -1).entries()) {
    try {
      const { did, operation, createdAt } = JSON.parse(line) as StoredOperation;
      await database.validateAndAddOp(did, operation);
      database.contents[did]!.at(-1)!.createdAt = new Date(createdAt);
    } catch (error) {
      throw new PlcFileDamaged(`${file}:${index + 1}: ${(error as Error).message}`, { cause: error });
    }
  }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** From here on each operation that the database takes is written too. */
function keep(database: MockDatabase, file: string): void {
  const add = database.validateAndAddOp.bind(database);
  database.validateAndAddOp = async (did, operation) => {
    await add(did, operation);
    const createdAt = database.contents[did]!.at(-1)!.createdAt.toISOString();
    appendFileSync(file, `${JSON.stringify({ did, operation, createdAt } satisfies StoredOperation)}\n`);
  };
}
