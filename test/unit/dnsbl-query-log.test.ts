import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Clock } from '../../dnsbl/access/clock.ts';
import { QueryReader } from '../../dnsbl/query.ts';
import { type Answered, QueryLog, type QueryLogSettings, ThreadQueryLog } from '../../dnsbl/query-log.ts';
import { OUTCOME } from '../../dnsbl/seams.ts';
import { clientAt } from './dnsbl-access-fixtures.ts';
import { apex, queryPacket, startMs } from './dnsbl-fixtures.ts';

type Line = { level: string; text: string; [field: string]: unknown };

/** Nothing is logged until a test says so. */
const quiet: QueryLogSettings = { every: 0, client: { ipv4: 24, ipv6: 56 } };

function world(every: number, apexes = [apex]) {
  const lines: Line[] = [];
  const note = (level: string) => (fields: object, text: string) =>
    void lines.push({ level, text, ...fields });
  const log = { info: note('info'), warn: note('warn') } as unknown as ConstructorParameters<
    typeof QueryLog
  >[0]['log'];
  const owner = new QueryLog({ settings: { ...quiet, every }, log, apexes });
  let nowMs = startMs;
  const clock = new Clock(() => nowMs);
  const counted = { written: 0, lost: 0 };
  const metrics = {
    logged: () => {
      counted.written += 1;
    },
    logLost: () => {
      counted.lost += 1;
    },
  };
  const memory = owner.add();
  const thread = new ThreadQueryLog(memory, clock, metrics);
  const pass = (ms: number) => {
    nowMs += ms;
    clock.tick();
  };
  return { owner, memory, thread, lines, counted, pass };
}

function answered(name: string, rest: Partial<Answered> = {}): Answered {
  const query = new QueryReader();
  const packet = queryPacket(name, 'A');
  query.read(packet, 0, packet.length);
  return { outcome: OUTCOME.nxdomain, zone: 0, type: 1, query, ...rest };
}

const reader = clientAt('192.0.2.77');

test('a sampled query is a line with the name, the answer and the prefix of its client', () => {
  const { owner, thread, lines } = world(1);
  thread.see(answered(`Reef.test.dom.${apex}`), reader, 'udp', 103);
  thread.see(
    answered(`x.${apex}`, { outcome: OUTCOME.refused, zone: -1 }),
    clientAt('2001:db8:1:2ff::9'),
    'tcp',
    40,
  );
  thread.see(answered(`x.${apex}`, { type: 0 }), reader, 'udp', 0);
  owner.drain();
  const at = new Date(startMs).toISOString();
  const common = { level: 'info', text: 'DNS query', at };
  assert.deepEqual(lines, [
    {
      ...{ ...common, client: '192.0.2.0/24', transport: 'udp', name: `reef.test.dom.${apex}.`, type: 1 },
      ...{ answer: 'nxdomain', zone: apex, octets: 103 },
    },
    {
      ...{ ...common, client: '2001:db8:1:200::/56', transport: 'tcp', name: `x.${apex}.`, type: 1 },
      ...{ answer: 'refused', zone: undefined, octets: 40 },
    },
    {
      ...{ ...common, client: '192.0.2.0/24', transport: 'udp', name: '.', type: 0 },
      ...{ answer: 'none', zone: apex, octets: 0 },
    },
  ]);
});

test('one of n in the mean, and none at 0; another n counts at once', () => {
  const { owner, thread, lines } = world(0);
  const one = answered(`reef.test.dom.${apex}`);
  const see = () => {
    for (let n = 0; n < 20_000; n++) {
      thread.see(one, reader, 'udp', 50);
      if (n % 100 === 0) owner.drain();
    }
  };
  see();
  assert.equal(lines.length, 0);
  owner.replace({ ...quiet, every: 50 });
  see();
  assert.ok(lines.length > 300 && lines.length < 500, `${lines.length} of 20,000`);
});

test('a full ring loses and counts, and goes on when it was emptied', () => {
  const { owner, thread, lines, counted } = world(1);
  const one = answered(`reef.test.dom.${apex}`);
  for (let n = 0; n < 1000; n++) thread.see(one, reader, 'udp', 50);
  assert.deepEqual(counted, { written: 512, lost: 488 });
  owner.drain();
  assert.equal(lines.length, 512);
  for (let n = 0; n < 10; n++) thread.see(one, reader, 'udp', 50);
  owner.stop();
  assert.equal(lines.length, 522);
});

test('the key of a subscriber is in no line', () => {
  const { owner, thread, lines } = world(1);
  thread.see(answered(`reef.test.dom.k3ysofharbor-2026.${apex}`), reader, 'udp', 50);
  thread.see(answered(`averylonglabelthatisnokey.test.dom.${apex}`), reader, 'udp', 50);
  owner.drain();
  assert.deepEqual(
    lines.map(({ name }) => name),
    [`reef.test.dom.*.${apex}.`, `averylonglabelthatisnokey.test.dom.${apex}.`],
  );
});

test('what was answered before a zone was chosen shows no key either', () => {
  const { owner, thread, lines } = world(1);
  const key = 'k3ysofharbor-2026';
  const names = [
    `reef.test.dom.${key}.${apex}`,
    `reef.test.dom.${key}.${apex.replace('r', 'rr')}`,
    `averylonglabelthatisnokey.test.dom.${apex}`,
  ];
  for (const name of names)
    thread.see(answered(name, { outcome: OUTCOME.refused, zone: -1 }), reader, 'udp', 50);
  owner.drain();
  assert.deepEqual(
    lines.map(({ name }) => name),
    [
      `reef.test.dom.*.${apex}.`,
      `reef.test.dom.*.${apex.replace('r', 'rr')}.`,
      `averylonglabelthatisnokey.test.dom.${apex}.`,
    ],
  );
});

test('of two zones, one inside the other, the key of either is in no line', () => {
  const inner = `inner.${apex}`;
  const { owner, thread, lines } = world(1, [apex, inner]);
  const key = 'k3ysofharbor-2026';
  for (const zone of [-1, 0, 1])
    thread.see(answered(`reef.test.dom.${key}.${inner}`, { zone }), reader, 'udp', 50);
  owner.drain();
  for (const { name } of lines) assert.equal(name, `reef.test.dom.*.${inner}.`);
});

test('octets that are no letters stand there by number', () => {
  const { owner, thread, lines } = world(1);
  const odd = answered(`a.b.${apex}`);
  odd.query.name.set([0x0a, 0x2e], 1);
  odd.query.name[0] = 2;
  odd.query.name[3] = 0;
  thread.see({ ...odd, query: { name: odd.query.name, nameLength: 3 } }, reader, 'udp', 50);
  owner.drain();
  assert.equal(lines[0]!.name, '\\010\\..');
});

test('who is limited is told once a second, with the number of answers', () => {
  const { owner, thread, lines, pass } = world(0);
  for (let n = 0; n < 100; n++) thread.limited(reader, 'positive');
  pass(1000);
  thread.limited(reader, 'error');
  owner.drain();
  assert.deepEqual(
    lines.map(({ level, client, answers, limited }) => [level, client, answers, limited]),
    [
      ['warn', '192.0.2.0/24', 'positive', 1],
      ['warn', '192.0.2.0/24', 'error', 100],
    ],
  );
});

test('what is cut of an address is not in the ring', () => {
  const { memory, thread } = world(1);
  thread.see(answered(`reef.test.dom.${apex}`), clientAt('192.0.2.251'), 'udp', 50);
  assert.ok(Buffer.from(memory).includes(Buffer.from([192, 0, 2, 0])));
  assert.ok(!Buffer.from(memory).includes(251));
});

test('a whole address is kept only where the operator says so', () => {
  const { owner, thread, lines } = world(1);
  owner.replace({ every: 1, client: { ipv4: 32, ipv6: 128 } });
  thread.see(answered(`reef.test.dom.${apex}`), reader, 'udp', 50);
  thread.see(answered(`reef.test.dom.${apex}`), reader, 'udp', 50);
  owner.drain();
  assert.equal(lines.at(-1)!.client, '192.0.2.77');
});
