/** Mutated packets with cookies and keys, from anywhere, to a zone with every limit on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CookieSecrets } from '../../dnsbl/access/cookie-secrets.ts';
import { hashOfKey } from '../../dnsbl/access/subscriber-keys.ts';
import { Answerer } from '../../dnsbl/answer.ts';
import { MAX_UDP_OCTETS } from '../../dnsbl/limits.ts';
import { newMetricsMemory, ThreadMetrics } from '../../dnsbl/metrics.ts';
import { accessWorld, settingsWith } from '../unit/dnsbl-access-fixtures.ts';
import { apex, queryPacket, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-access');
const key = 'k3ysofharbor-2026';

test('no packet breaks the limits, and every one is answered or dropped, and counted once', () => {
  const subscribers = [{ name: 'reef', keyHash: hashOfKey(key)!, quota: { perSecond: 50, perDay: 10_000 } }];
  const settings = settingsWith({
    quota: { perSecond: 20, perDay: 5000 },
    limit: { perName: 5, perClient: 50, perClientErrors: 5, badCookie: true },
    rules: { refuse: ['1.0.0.0/8', '100::/8'], drop: ['2.0.0.0/8'] },
    zones: [{ apex, unkeyed: 'open', subscribers }],
  });
  const world = accessWorld({ settings, cookieSecrets: new CookieSecrets() });
  const { gate, cookies, keys } = world.thread;
  const counted = { answered: 0, dropped: 0 };
  const metrics = new ThreadMetrics(newMetricsMemory(1));
  const counters = {
    answered: (...answer: Parameters<ThreadMetrics['answered']>) => {
      counted.answered += 1;
      metrics.answered(...answer);
    },
    dropped: (reason: number) => {
      counted.dropped += 1;
      metrics.dropped(reason);
    },
  };
  const zones = [zoneOf(vouched({ name: 'reef.test' })).share()];
  const answerer = new Answerer({ zones, counters, gate, cookies, keys });
  const out = Buffer.alloc(65_535);
  for (let left = fuzz.rounds(20_000); left > 0; left--) {
    if (fuzz.below(20) === 0) world.pass(fuzz.below(200) - 20);
    const client = { family: fuzz.pick([4, 6] as const), address: randomOctets(16), port: 53 };
    const transport = fuzz.pick(['udp', 'udp', 'udp', 'tcp'] as const);
    const before = counted.answered + counted.dropped;
    const packet = anyPacket();
    const octets = answerer.answer(packet, 0, packet.length, transport, client, out, 0);
    assert.equal(counted.answered + counted.dropped, before + 1);
    assert.ok(octets <= (transport === 'udp' ? MAX_UDP_OCTETS : out.length), `${octets} octets`);
  }
  assert.ok(counted.answered > 0 && counted.dropped > 0, JSON.stringify(counted));
});

function anyPacket(): Buffer {
  const name = fuzz.pick([`reef.test.dom.${apex}`, `reef.test.dom.${key}.${apex}`, `no.test.dom.${apex}`]);
  const cookie = randomOctets(fuzz.pick([0, 7, 8, 9, 16, 24, 24, 40, 41]));
  if (cookie.length > 8 && fuzz.below(2) === 0) cookie[8] = 1;
  const options = [{ code: 10, data: Buffer.from(cookie) }];
  const packet = queryPacket(name, 'A', { options } as Parameters<typeof queryPacket>[2]);
  return fuzz.below(2) === 0 ? packet : fuzz.mutate(packet);
}

/** Few networks, so that many come from the same. */
function randomOctets(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index === 0 ? fuzz.below(3) : fuzz.below(2)));
}
