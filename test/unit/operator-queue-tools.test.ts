import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { Refusal } from '../../node/http/refusal.ts';
import { type ActRequest, QueueTools } from '../../node/operator/queue-tools.ts';

/** The spool's own tests say what its acts do; here: what reaches it, and what never does. */
describe('the queue tools', () => {
  let calls: unknown[];
  let events: { type: string; detail: Record<string, unknown> }[];
  let tools: QueueTools;

  beforeEach(() => {
    calls = [];
    events = [];
    const acting = (name: string) => async (selection: unknown, act: unknown) => {
      calls.push([name, selection, act]);
      return 3;
    };
    const names = ['hold', 'unhold', 'retryNow', 'cancel', 'fail', 'reroute'];
    tools = new QueueTools({
      queue: Object.fromEntries(names.map((name) => [name, acting(name)])) as never,
      traffic: { sites: () => [], flush: (site) => void calls.push(['flush', site]), wake: () => undefined },
      did: 'did:web:coop.test',
      record: (event) => void events.push(event),
      stoppedMembers: () => ['did:plc:suspended'],
      now: () => 1_000,
    });
  });

  const selection = { domain: 'reef.test' };
  const table: [ActRequest, unknown][] = [
    [
      { act: 'hold', selection, by: 'ada', reason: 'looks odd' },
      ['hold', selection, { by: 'ada', reason: 'looks odd' }],
    ],
    [
      { act: 'release', selection, by: 'ada', reason: 'fine' },
      ['unhold', { ...selection, exceptMailOf: ['did:plc:suspended'] }, { by: 'ada', reason: 'fine' }],
    ],
    [{ act: 'retry', selection, by: 'ada' }, ['retryNow', selection, { by: 'ada' }]],
    [
      { act: 'fail', selection, by: 'ada', reason: 'gone' },
      ['fail', selection, { by: 'ada', reason: 'gone' }],
    ],
    [
      { act: 'drop', selection, by: 'ada', reason: 'spam' },
      ['cancel', selection, { by: 'ada', reason: 'spam' }],
    ],
    [
      { act: 'reroute', selection, by: 'ada', to: 'mx.test:26' },
      ['reroute', selection, { by: 'ada', to: 'mx.test:26' }],
    ],
    [{ act: 'reroute', selection, by: 'ada', to: null }, ['reroute', selection, { by: 'ada', to: null }]],
  ];
  for (const [request, call] of table) {
    test(`${request.act} reaches the spool, and is told of once`, async () => {
      assert.equal(await tools.act(request), 3);
      assert.deepEqual(calls, [call]);
      assert.deepEqual(
        events.map(({ type, detail }) => [type, detail.act, detail.by, detail.changed]),
        [['staff_act', `queue ${request.act}`, 'ada', 3]],
      );
    });
  }

  const wrong: [string, ActRequest][] = [
    ['names nothing', { act: 'retry', selection: {}, by: 'ada' }],
    ['names nothing but undefined', { act: 'retry', selection: { did: undefined }, by: 'ada' }],
    ['gives no reason', { act: 'drop', selection, by: 'ada' }],
    ['gives a blank reason', { act: 'hold', selection, by: 'ada', reason: ' ' }],
    ['says not who', { act: 'retry', selection, by: '' }],
    ['reroutes to nowhere', { act: 'reroute', selection, by: 'ada' }],
  ];
  for (const [what, request] of wrong) {
    test(`an act that ${what} is refused before the spool hears of it`, async () => {
      await assert.rejects(tools.act(request), Refusal);
      assert.deepEqual(calls, []);
      assert.deepEqual(events, []);
    });
  }

  test('a flush lifts the suspension first and then makes everything due', async () => {
    await tools.flush('example.com', 'ada');
    assert.deepEqual(calls, [
      ['flush', 'example.com'],
      ['retryNow', { site: 'example.com' }, { by: 'ada' }],
    ]);
  });
});
