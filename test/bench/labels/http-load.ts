/**
 * GET requests over some connections at once, each with the next when its answer is there.
 *
 * On raw sockets: an HTTP client would cost more than what it asks.
 */
import { connect, type Socket } from 'node:net';

export type Load = { requests: number; perSecond: number; p99Ms: number };

/** @param pathOf of each request; @param check throws on an answer that is wrong */
export async function load(
  port: number,
  o: { connections: number; ms: number; pathOf: () => string; check: (body: string) => void },
): Promise<Load> {
  const tookMs: number[] = [];
  const start = performance.now();
  const end = start + o.ms;
  await Promise.all(
    Array.from({ length: o.connections }, async () => {
      const socket = connect(port, '127.0.0.1').setNoDelay();
      const answers = answersOf(socket);
      while (performance.now() < end) {
        const asked = performance.now();
        socket.write(`GET ${o.pathOf()} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        const { value } = await answers.next();
        tookMs.push(performance.now() - asked);
        // Some of them: the load shares two cores with what it measures.
        if (tookMs.length % 100 === 1) o.check(value!.toString('latin1'));
      }
      socket.destroy();
    }),
  );
  const seconds = (performance.now() - start) / 1_000;
  const sorted = Float64Array.from(tookMs).sort();
  return {
    requests: tookMs.length,
    perSecond: tookMs.length / seconds,
    p99Ms: sorted[Math.floor(sorted.length * 0.99)]!,
  };
}

/** Bodies, by their content-length. */
async function* answersOf(socket: Socket): AsyncGenerator<Buffer, undefined, undefined> {
  let buffered: Buffer = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    const headerEnd = buffered.indexOf('\r\n\r\n');
    if (headerEnd < 0) continue;
    const header = buffered.toString('latin1', 0, headerEnd);
    const length = Number(/content-length: (\d+)/i.exec(header)?.[1]);
    if (!header.startsWith('HTTP/1.1 200')) throw new Error(header);
    if (buffered.length < headerEnd + 4 + length) continue;
    const body = buffered.subarray(headerEnd + 4, headerEnd + 4 + length);
    buffered = buffered.subarray(headerEnd + 4 + length);
    yield body;
  }
}
