/**
 * Many TCP clients that connect, say part of a message and wait: places and memory stay bounded, and
 * UDP and honest TCP go on. The long form (ATMOS_FUZZ_ROUNDS) has 10,000 of them.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import { DnsServer } from '../../dnsbl/server.ts';
import { addressOf } from '../ask-dns.ts';
import { apex, decoded, queryPacket, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import { until } from '../until.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-slow-clients');
const name = `reef.test.dom.${apex}`;

if (process.argv[2] === 'clients') {
  await slowClients(Number(process.argv[3]), Number(process.argv[4]));
} else {
  for (const workers of [0, 1]) {
    test(`slow clients, however many, take the places that there are and no more: ${workers} workers`, async (t) => {
      const limits = { maxTcpConnections: 64, tcpDisplaceMs: 100 };
      const server = new DnsServer({
        zones: [zoneOf(vouched({ name: 'reef.test' }))],
        listen: { host: '127.0.0.1', port: 0 },
        log: pino({ enabled: false }),
        limits,
        workers,
      });
      const [at] = await server.start();
      t.after(() => server.stop());
      const many = Math.min(10_000, fuzz.rounds(1_000, 100));
      const heldBefore = heldMb();
      const clients = fork(import.meta.filename, ['clients', `${at!.port}`, `${many}`], { execArgv: [] });
      t.after(() => clients.kill());
      let slowestMs = 0;
      let asked = 0;
      let isOver = false;
      clients.once('message', () => {
        isOver = true;
      });
      while (!isOver) {
        const before = performance.now();
        assert.equal(await addressOf(at!, name), '127.0.3.1');
        asked += 1;
        slowestMs = Math.max(slowestMs, performance.now() - before);
      }
      // Those that the kernel still holds for the server come one by one.
      const met = () => {
        const counts = server.counts();
        return counts.get('dns_tcp_refused all_taken')! + counts.get('dns_tcp_closed displaced')!;
      };
      await until(
        'all but those with a place are turned away',
        () => met() >= many - limits.maxTcpConnections,
      );
      const grownMb = heldMb() - heldBefore;
      console.log(
        `${many} slow clients, ${workers} workers: ${asked} UDP answers, slowest ${slowestMs.toFixed(1)} ms, ${grownMb.toFixed(1)} MB more held`,
      );
      assert.ok(grownMb < 16, `${grownMb} MB more`);
      assert.equal(await honestTcp(at!.port), 1);
    });
  }
}

/** What is not garbage. */
function heldMb(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

/** The slow ones still hold all places; after their grace one gives way. */
async function honestTcp(port: number): Promise<number> {
  const query = queryPacket(name, 'A');
  for (;;) {
    const client = connect(port, '127.0.0.1');
    client.write(Buffer.concat([Buffer.from([0, query.length]), query]));
    const answer = once(client, 'data').catch(() => undefined);
    const closed = new Promise<undefined>((resolve) => client.once('close', () => resolve(undefined)));
    const [message] = (await Promise.race([answer, closed])) ?? [];
    client.destroy();
    if (message) return decoded(message.subarray(2)).answers?.length ?? 0;
  }
}

/** From addresses of their own, so that the cap for each client does not keep them out. */
async function slowClients(port: number, many: number): Promise<void> {
  const parts = [Buffer.alloc(0), Buffer.from([0]), Buffer.from([0xff, 0xff, 0, 1])];
  for (let index = 0; index < many; index++) {
    const localAddress = `127.0.${1 + (index >> 8)}.${index & 255}`;
    const client = connect({ port, host: '127.0.0.1', localAddress });
    client.on('error', () => client.destroy());
    await new Promise((resolve) => client.once('connect', resolve).once('close', resolve));
    client.write(parts[index % parts.length]!);
  }
  process.send!('all came');
}
