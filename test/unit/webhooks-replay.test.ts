import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Seal } from '../../node/members/seal.ts';
import { Deliveries } from '../../node/webhooks/deliveries.ts';
import { Endpoints } from '../../node/webhooks/endpoints.ts';
import { day, hour, reef, start, world } from './enforcement-fixtures.ts';

test('a replay of some hours finds them also after a clock that was put back, when ids ran ahead of the time', async () => {
  const { db, now, clock, events } = world();
  const rules = { allowLoopback: true, loopbackOnly: true };
  const endpoints = new Endpoints({ db, seal: new Seal(Buffer.alloc(32)), rules, now });
  endpoints.create({ did: reef, url: 'http://127.0.0.1:9/', description: '', types: [] });
  const [webhook] = endpoints.of(reef);
  const deliveries = new Deliveries({ db, endpoints, now, count: () => undefined });
  const bounce = () => events.record({ type: 'delivery_result', did: reef, detail: { state: 'bounced' } });
  clock.at = start + 300 * day;
  bounce();
  clock.at = start;
  bounce();
  clock.at = start + hour;
  bounce();
  const replayed = await deliveries.replay(webhook!, { since: start, until: start + hour });
  assert.deepEqual(replayed, { queued: 1 });
});
