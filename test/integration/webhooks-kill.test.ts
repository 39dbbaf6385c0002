import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bounced, receiver, world } from './webhooks-world.ts';

const child = join(import.meta.dirname, 'webhooks-kill-child.ts');

test('killed while its request was under way, a node tells again, with the same id, and not a third time', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'webhooks-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const run = () => spawn(process.execPath, [child, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  const target = await receiver(t, (nth) => (nth === 1 ? 'silence' : { status: 200 }));
  const { hook, happen, deliveries } = world(t, { file: join(dir, 'node.db') });
  const { webhook } = hook(target.url);
  happen(bounced(1));

  const first = run();
  await target.until(1);
  first.kill('SIGKILL');
  await once(first, 'exit');
  assert.equal(deliveries.list(webhook.id, { limit: 1 })[0]!.state, 'waiting');

  const second = run();
  await target.until(2);
  await once(second.stdout!, 'data');
  second.kill('SIGKILL');
  await once(second, 'exit');
  const [delivery] = deliveries.list(webhook.id, { limit: 1 });
  assert.deepEqual([delivery!.state, delivery!.attempts], ['delivered', 1]);
  const ids = target.received.map(({ headers }) => headers['webhook-id']);
  assert.deepEqual([ids.length, ids[0]], [2, ids[1]]);
});
