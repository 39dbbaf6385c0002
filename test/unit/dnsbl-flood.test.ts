/** Floods and those who are beside them, through the Answerer and through real sockets. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { type DecodedPacket, decode } from 'dns-packet';
import { pino } from 'pino';
import { Access } from '../../dnsbl/access/access.ts';
import { CookieSecrets } from '../../dnsbl/access/cookie-secrets.ts';
import { hashOfKey } from '../../dnsbl/access/subscriber-keys.ts';
import { Answerer } from '../../dnsbl/answer.ts';
import { QueryLog } from '../../dnsbl/query-log.ts';
import { type Client, OUTCOME } from '../../dnsbl/seams.ts';
import { DnsServer } from '../../dnsbl/server.ts';
import type { Transport } from '../../dnsbl/wire.ts';
import { accessWorld, clientAt, settingsWith } from './dnsbl-access-fixtures.ts';
import { apex, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';

const key = 'k3ysofharbor-2026';
const zone = zoneOf(vouched({ name: 'reef.test' }));
const counters = { answered: () => undefined, dropped: () => undefined };
const out = Buffer.alloc(65_535);
const listed = `reef.test.dom.${apex}`;

function answererOf({ thread }: ReturnType<typeof accessWorld>): Answerer {
  const { gate, cookies, keys } = thread;
  return new Answerer({ zones: [zone.share()], counters, gate, cookies, keys });
}

/** @returns the answer's octets; empty for silence */
function ask(answerer: Answerer, packet: Buffer, client: Client, transport: Transport = 'udp'): Buffer {
  return Buffer.from(out.subarray(0, answerer.answer(packet, 0, packet.length, transport, client, out, 0)));
}

const victim = clientAt('192.0.2.7');
const resolver = clientAt('198.51.100.53');

test('a reflected flood of one name sends its victim less than it cost, and no resolver notices', () => {
  const world = accessWorld();
  const answerer = answererOf(world);
  const lever = queryPacket(listed, 'TXT');
  const sums = { asked: 0, sent: 0, limited: 0 };
  // Three seconds: 20,000 forged queries a second, beside a resolver with 5,000 names, half of them hits.
  for (let ms = 0; ms < 3000; ms++) {
    world.pass(1);
    for (let n = 0; n < 20; n++) {
      sums.asked += lever.length;
      sums.sent += ask(answerer, lever, victim).length;
    }
    for (let n = 0; n < 5; n++) {
      const name = n % 2 === 0 ? `n${ms}-${n}.test.dom.${apex}` : `x${ms}-${n}.reef.test.dom.${apex}`;
      const answer = ask(answerer, queryPacket(name, 'A'), resolver);
      if (answer.length === 0 || answerer.outcome === OUTCOME.slipped) sums.limited += 1;
    }
  }
  assert.equal(sums.limited, 0);
  assert.ok(sums.sent < sums.asked, `${sums.sent} octets for ${sums.asked}`);
});

test('a reflected flood of many listed names brings its victim no more answers a second than perClient', () => {
  const names = Array.from({ length: 1000 }, (_, index) => `n${index}.test`);
  const many = zoneOf(...names.map((name) => vouched({ name })));
  const world = accessWorld({ settings: settingsWith({ limit: { perClient: 500 } }) });
  const { gate, cookies, keys } = world.thread;
  const answerer = new Answerer({ zones: [many.share()], counters, gate, cookies, keys });
  const levers = names.map((name) => queryPacket(`${name}.dom.${apex}`, 'TXT'));
  let [next, whole] = [0, 0];
  for (let ms = 0; ms < 3000; ms++) {
    world.pass(1);
    for (let n = 0; n < 10; n++) {
      const lever = levers[next++ % levers.length]!;
      const answer = ask(answerer, lever, victim);
      if (answerer.outcome === OUTCOME.noerror && answer.length > 0) whole += 1;
      else assert.ok(answer.length <= lever.length);
    }
  }
  // Three seconds, and the burst before them.
  assert.ok(whole >= 1500 && whole <= 2001, `${whole} answers`);
});

test('a real client under a flood in its name comes through by TCP', () => {
  const answerer = answererOf(accessWorld());
  const query = queryPacket(listed, 'A');
  const kinds = { answers: 0, truncated: 0, silence: 0 };
  for (let n = 0; n < 150; n++) {
    const answer = ask(answerer, query, victim);
    if (answer.length === 0) kinds.silence += 1;
    else if (decode(answer).flag_tc) {
      kinds.truncated += 1;
      assert.equal(answer.length, query.length, 'no larger than the question');
    } else kinds.answers += 1;
  }
  assert.deepEqual(kinds, { answers: 50, truncated: 50, silence: 50 });
  assert.equal(decode(ask(answerer, query, victim, 'tcp')).answers?.length, 1);
});

/** With the option of RFC 7873. */
function withCookie(name: string, cookie: Buffer): Buffer {
  const options = [{ code: 10, data: cookie }];
  return queryPacket(name, 'A', { options } as Parameters<typeof queryPacket>[2]);
}

type WithOptions = { options?: { code: number; data: Buffer }[] };

function cookieOf(answer: Buffer): Buffer {
  const additionals = decode(answer).additionals as unknown as WithOptions[];
  return additionals.flatMap(({ options = [] }) => options).find(({ code }) => code === 10)!.data;
}

const clientCookie = Buffer.from('2464c4abcf10c957', 'hex');

test('a valid cookie frees its client from the limit, and one of another client does not', () => {
  const answerer = answererOf(accessWorld({ cookieSecrets: new CookieSecrets() }));
  const cookie = cookieOf(ask(answerer, withCookie(listed, clientCookie), victim));
  assert.equal(cookie.length, 24);
  for (let n = 0; n < 500; n++) {
    const answer = ask(answerer, withCookie(listed, cookie), victim);
    assert.equal(decode(answer).answers?.length, 1);
    assert.deepEqual(cookieOf(answer), cookie);
  }
  const neighbour = clientAt('192.0.2.8');
  const fates = new Set<number>();
  for (let n = 0; n < 100; n++) {
    fates.add(ask(answerer, withCookie(listed, cookie), neighbour).length === 0 ? -1 : answerer.outcome);
  }
  assert.deepEqual([...fates].toSorted(), [-1, OUTCOME.noerror, OUTCOME.slipped]);
});

test('new secrets reach every thread, and cookies of those before stay valid', () => {
  let nowMs = 0;
  const cookieSecrets = new CookieSecrets({ now: () => nowMs });
  const world = accessWorld({ cookieSecrets }, 2);
  const [one, other] = world.threads.map(({ cookies }) => cookies!);
  const make = () => {
    const cookie = Buffer.alloc(24);
    one!.answerFor(victim, clientCookie, 0, 8, cookie, 0);
    return cookie;
  };
  const isValid = (cookie: Buffer) => other!.isValid(victim, cookie, 0, cookie.length);
  const first = make();
  nowMs += 24 * 3600 * 1000;
  world.access.refresh();
  const second = make();
  assert.notDeepEqual(second, first);
  assert.deepEqual([isValid(first), isValid(second)], [true, true]);
  nowMs += 24 * 3600 * 1000;
  world.access.refresh();
  assert.deepEqual([isValid(first), isValid(second)], [false, true]);
});

test('BADCOOKIE brings a cookie with which the client is answered, and only where the operator wants it', () => {
  for (const badCookie of [true, false]) {
    const settings = settingsWith({ limit: { badCookie, slip: 1 } });
    const answerer = answererOf(accessWorld({ settings, cookieSecrets: new CookieSecrets() }));
    const query = withCookie(listed, clientCookie);
    for (let n = 0; n < 50; n++) ask(answerer, query, victim);
    const limited = decode(ask(answerer, query, victim)) as DecodedPacket & { rcode: string };
    assert.equal(answerer.outcome, badCookie ? OUTCOME.badcookie : OUTCOME.slipped);
    assert.equal(limited.flag_tc, !badCookie);
    assert.equal(limited.answers?.length, 0);
    const cookie = cookieOf(ask(answerer, query, victim));
    assert.equal(decode(ask(answerer, withCookie(listed, cookie), victim)).answers?.length, 1);
  }
});

test('over quota and outside the rules the answer is REFUSED, with no record in it', () => {
  const settings = settingsWith({ quota: { perDay: 1 }, rules: { refuse: ['203.0.113.0/24'] } });
  const answerer = answererOf(accessWorld({ settings }));
  const query = queryPacket(listed, 'A');
  assert.equal(decode(ask(answerer, query, resolver)).answers?.length, 1);
  for (const client of [resolver, clientAt('203.0.113.9')]) {
    const refused = decode(ask(answerer, query, client)) as DecodedPacket & { rcode: string };
    assert.equal(refused.rcode, 'REFUSED');
    assert.deepEqual([refused.answers, refused.authorities], [[], []]);
  }
});

test('a subscriber asks under its key, where others hear that there is no such name', () => {
  const subscribers = [{ name: 'reef', keyHash: hashOfKey(key)! }];
  const settings = settingsWith({ zones: [{ apex, unkeyed: 'closed', subscribers }] });
  const answerer = answererOf(accessWorld({ settings }));
  const rcode = (name: string) =>
    (decode(ask(answerer, queryPacket(name, 'A'), resolver)) as DecodedPacket & { rcode: string }).rcode;
  assert.equal(rcode(`reef.test.dom.${key}.${apex}`), 'NOERROR');
  assert.equal(rcode(`reef.test.dom.${key.toUpperCase()}.${apex}`), 'NOERROR');
  assert.equal(rcode(`test.dom.${key}.${apex}`), 'NOERROR');
  assert.equal(rcode(`reef.test.dom.${key}x.${apex}`), 'NXDOMAIN');
  assert.equal(rcode(listed), 'REFUSED');
});

for (const workers of [0, 1]) {
  test(`a server with ${workers} workers limits, takes new settings, counts and logs`, async (t) => {
    const lines: string[] = [];
    const log = pino({ base: null, timestamp: false }, { write: (line) => void lines.push(line) });
    // Nothing is limited, and so nothing dropped, until the settings below are taken.
    const access = new Access({ settings: settingsWith({ limit: { mode: 'off' } }) });
    const queryLog = new QueryLog({
      settings: { every: 1, client: { ipv4: 8, ipv6: 32 } },
      log,
      apexes: [apex],
    });
    const listen = { host: '127.0.0.1', port: 0 };
    const server = new DnsServer({ zones: [zone], listen, workers, log, access, queryLog });
    const [bound] = await server.start();
    const socket = createSocket('udp4');
    t.after(async () => {
      socket.close();
      await server.stop();
    });
    /** Waits for the answer, and so asks one at a time. */
    const asked = async () => {
      socket.send(queryPacket(listed, 'A'), bound!.port, bound!.host);
      const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(5000) });
      return decode(answer) as DecodedPacket & { rcode: string };
    };
    /** Whether an answer with this TC comes, sooner or later. */
    const comes = async (truncated: boolean) => {
      for (let n = 0; n < 5000; n++) if ((await asked()).flag_tc === truncated) return true;
      return false;
    };
    access.replace(settingsWith({ limit: { perName: 20, slip: 1 } }));
    assert.ok(await comes(true));
    assert.ok(await comes(false), 'time goes on');
    access.replace(settingsWith({ rules: { others: 'refuse' } }));
    let rcode = '';
    for (let n = 0; n < 200 && rcode !== 'REFUSED'; n++) rcode = (await asked()).rcode;
    assert.equal(rcode, 'REFUSED');
    const samples = server.metrics().flatMap((metric) => metric.samples);
    const answers = samples.filter(({ name }) => name === 'atmos_dns_answers_total');
    assert.ok(answers.some(({ labels }) => labels.answer === 'slipped' && labels.zone === apex));
    assert.ok(answers.some(({ labels }) => labels.answer === 'refused' && labels.zone === ''));
    queryLog.drain();
    assert.ok(lines.some((line) => line.includes('"DNS query"') && line.includes('127.0.0.0/8')));
    assert.ok(lines.some((line) => line.includes('"DNS answers limited"')));
  });
}
