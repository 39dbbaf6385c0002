/** What becomes of a failure of our own while a stranger asks for labels. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import type { LabelQueries } from '../../node/labeler/label-query.ts';
import { queryRoute } from '../../node/labeler/query-route.ts';

/** @returns what is answered, and what ended the process */
async function asked(t: TestContext, error: Error) {
  const page = () => Promise.reject(error);
  const route = queryRoute({
    queries: { page } as unknown as LabelQueries,
    ...{ did: 'did:web:harbor.test', now: Date.now, log: { error: () => undefined } },
  });
  const server = createServer(route);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const uncaught: unknown[] = [];
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (one) => uncaught.push(one));
  try {
    const { port } = server.address() as AddressInfo;
    const { status } = await fetch(`http://127.0.0.1:${port}/xrpc/x?uriPatterns=*`);
    return { status, uncaught };
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const other of others) process.on('uncaughtException', other);
  }
}

test('a damaged database ends the process, once the stranger has the answer', async (t) => {
  const damaged = new CorruptState('node.db: a label that stands is not in the log.');
  assert.deepEqual(await asked(t, damaged), { status: 500, uncaught: [damaged] });
});

test('what else fails is answered, and ends nothing', async (t) => {
  assert.deepEqual(await asked(t, new Error('database is locked')), { status: 500, uncaught: [] });
});
