import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import {
  Answerer,
  type AnswererOptions,
  type Client,
  type Cookies,
  dropReasons,
  type Gate,
  outcomes,
  type ZoneKeys,
} from '../../dnsbl/answer.ts';
import { apex, decoded, emptyZone, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';

const zone = zoneOf(vouched({ name: 'reef.test' }));
const client: Client = { family: 4, address: Uint8Array.of(192, 0, 2, 7), port: 5353 };

/** With the counters as lines, newest last. */
function answererOf(options: Partial<AnswererOptions> = {}) {
  const counted: string[] = [];
  const counters = {
    answered: (index: number, type: number, outcome: number, truncated: boolean) =>
      void counted.push(`${index} ${type} ${outcomes[outcome]}${truncated ? ' truncated' : ''}`),
    dropped: (reason: number) => void counted.push(`dropped ${dropReasons[reason]}`),
  };
  const answerer = new Answerer({ zones: [zone.share()], counters, ...options });
  const out = Buffer.alloc(65_535);
  const ask = (packet: Buffer, transport: 'udp' | 'tcp' = 'udp') => {
    const octets = answerer.answer(packet, 0, packet.length, transport, client, out, 0);
    return octets === 0 ? undefined : Buffer.from(out.subarray(0, octets));
  };
  return { answerer, ask, counted };
}

const question = (name: string, type: 'A' | 'TXT' | 'SOA' | 'NS' | 'ANY' = 'A') =>
  queryPacket(name === '' ? apex : `${name}.${apex}`, type);

/** The question with an OPT record that holds these options. */
function withOptions(packet: Buffer, ...options: [code: number, data: Buffer][]): Buffer {
  const data = options.map(([code, octets]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16BE(code, 0);
    head.writeUInt16BE(octets.length, 2);
    return Buffer.concat([head, octets]);
  });
  const opt = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
  opt.writeUInt16BE(Buffer.concat(data).length, 9);
  const whole = Buffer.concat([packet, opt, ...data]);
  whole.writeUInt16BE(1, 10);
  return whole;
}

function optionsOf(message: Buffer | undefined): [code: number, data: string][] {
  assert.ok(message);
  decoded(message);
  const [opt] = decode(message).additionals ?? [];
  assert.ok(opt?.type === 'OPT');
  return opt.options.map((option) => [option.code, (option as { data: Buffer }).data.toString('latin1')]);
}

test('each packet is counted once, with zone, type and outcome', () => {
  const inner = emptyZone({ apex: `inner.${apex}` });
  const { ask, counted } = answererOf({ zones: [zone.share(), inner.share()] });
  ask(question('reef.test.dom'));
  ask(question('nobody.test.dom', 'TXT'));
  ask(question('test.dom.inner', 'TXT'));
  ask(queryPacket('example.org', 'MX'));
  ask(Buffer.alloc(5));
  ask(Buffer.alloc(12));
  assert.deepEqual(counted, [
    '0 1 noerror',
    '0 16 nxdomain',
    '1 16 noerror',
    '-1 15 refused',
    'dropped short',
    '-1 0 formerr',
  ]);
});

test('NSID is given to whom asks, where it is set', () => {
  const asking = withOptions(question('reef.test.dom'), [3, Buffer.alloc(0)]);
  assert.deepEqual(optionsOf(answererOf({ nsid: 'harbor-1' }).ask(asking)), [[3, 'harbor-1']]);
  assert.deepEqual(optionsOf(answererOf().ask(asking)), []);
  const other = withOptions(question('reef.test.dom'), [100, Buffer.alloc(2)]);
  assert.deepEqual(optionsOf(answererOf({ nsid: 'harbor-1' }).ask(other)), []);
});

test('an NSID may have 255 octets', () => {
  const asking = withOptions(question('reef.test.dom'), [3, Buffer.alloc(0)]);
  for (const octets of [251, 252, 255]) {
    const nsid = 'n'.repeat(octets);
    assert.deepEqual(optionsOf(answererOf({ nsid }).ask(asking)), [[3, nsid]]);
  }
});

test('class CHAOS tells version and name where they are set, and refuses all else', () => {
  const { ask } = answererOf({ nsid: 'harbor-1', version: 'Atmosphere' });
  const bare = answererOf();
  const chaos = (name: string) => {
    const packet = queryPacket(name, 'TXT');
    packet.writeUInt16BE(3, packet.length - 2);
    return packet;
  };
  const says = (message: Buffer | undefined) => {
    const { rcode, answers } = decoded(message!);
    const [first] = answers ?? [];
    return first?.type === 'TXT' ? `${first.class} ${String(first.data)}` : rcode;
  };
  for (const name of ['version.bind', 'VERSION.server'])
    assert.equal(says(ask(chaos(name))), 'CH Atmosphere');
  for (const name of ['hostname.bind', 'id.server']) assert.equal(says(ask(chaos(name))), 'CH harbor-1');
  assert.equal(says(ask(chaos('authors.bind'))), 'REFUSED');
  assert.equal(says(bare.ask(chaos('version.bind'))), 'REFUSED');
});

const cookies: Cookies = {
  isValid: (_client, octets, at, length) => length === 24 && octets[at + 8] === 0x53,
  answerFor: (_client, octets, at, _length, out, outAt) => {
    for (let index = 0; index < 8; index++) out[outAt + index] = octets[at + index]!;
    out.fill(0x53, outAt + 8, outAt + 24);
    return 24;
  },
};
const clientCookie = Buffer.from('12345678');
const serverCookie = Buffer.alloc(16, 0x53);

test('a cookie is answered with a cookie, behind what else is said', () => {
  const { ask } = answererOf({ cookies, nsid: 'harbor-1' });
  const asking = withOptions(question('reef.test.dom'), [10, clientCookie], [3, Buffer.alloc(0)]);
  const expected = `12345678${'S'.repeat(16)}`;
  assert.deepEqual(optionsOf(ask(asking)), [
    [3, 'harbor-1'],
    [10, expected],
  ]);
  assert.equal(decoded(ask(asking)!).answers?.length, 1);
  assert.deepEqual(optionsOf(answererOf().ask(asking)), [], 'unknown where there is no secret');
});

test('a cookie of a length that none has is FORMERR', () => {
  const { ask, counted } = answererOf({ cookies });
  for (const octets of [0, 7, 9, 15, 41]) {
    ask(withOptions(question('reef.test.dom'), [10, Buffer.alloc(octets)]));
    assert.equal(counted.pop(), '-1 0 formerr', `${octets}`);
  }
});

function gateOf(fate: ReturnType<Gate['respond']>, admission: ReturnType<Gate['admit']> = 'ok') {
  const asked: string[] = [];
  const hashes = new Set<number>();
  const gate: Gate = {
    admit: () => admission,
    respond: (_client, answerClass, hash) => {
      asked.push(answerClass);
      hashes.add(hash);
      return fate;
    },
  };
  return { gate, asked, hashes };
}

test('the rate limit is asked about every answer over UDP, by its class and name', () => {
  const { gate, asked, hashes } = gateOf('send');
  const { ask } = answererOf({ gate });
  const packets = [
    question('reef.test.dom'),
    question('REEF.test.dom'),
    question('test.dom', 'NS'),
    question('nobody.test.dom'),
    queryPacket('example.org', 'A'),
    Buffer.alloc(12),
  ];
  for (const packet of packets) assert.ok(ask(packet));
  assert.deepEqual(asked, ['positive', 'positive', 'nodata', 'nxdomain', 'error', 'error']);
  assert.equal(hashes.size, 5, 'one for each name, whatever its letters, and 0');
  ask(question('reef.test.dom'), 'tcp');
  assert.equal(asked.length, 6);
});

test('beyond the rate limit an answer is dropped, or slips out empty with TC', () => {
  const dropping = answererOf({ gate: gateOf('drop').gate });
  assert.equal(dropping.ask(question('reef.test.dom')), undefined);
  assert.deepEqual(dropping.counted, ['dropped limited']);
  const slipping = answererOf({ gate: gateOf('slip').gate });
  const reply = decoded(slipping.ask(question('reef.test.dom'))!);
  assert.deepEqual([reply.rcode, reply.flag_tc, reply.answers?.length], ['NOERROR', true, 0]);
  assert.deepEqual(slipping.counted, ['0 1 slipped truncated']);
  assert.equal(slipping.ask(Buffer.alloc(12)), undefined, 'without a question there is nothing to slip');
});

test('a valid cookie passes the rate limit, another does not', () => {
  const { ask } = answererOf({ gate: gateOf('drop').gate, cookies });
  const asking = (...data: Buffer[]) => withOptions(question('reef.test.dom'), [10, Buffer.concat(data)]);
  assert.ok(ask(asking(clientCookie, serverCookie)));
  assert.equal(ask(asking(clientCookie)), undefined);
  assert.equal(ask(asking(clientCookie, Buffer.alloc(16))), undefined);
});

test('who is not admitted is refused or left without an answer', () => {
  const refusing = answererOf({ gate: gateOf('send', 'refuse').gate });
  assert.equal(decoded(refusing.ask(question('reef.test.dom'))!).rcode, 'REFUSED');
  const silent = answererOf({ gate: gateOf('send', 'drop').gate });
  assert.equal(silent.ask(question('reef.test.dom'), 'tcp'), undefined);
  assert.deepEqual(silent.counted, ['dropped denied']);
});

test('below a key of the zone everything is as below its apex, below no key nothing is', () => {
  const admitted: number[] = [];
  const keys: ZoneKeys = {
    find: (octets, at, length) =>
      ['k1', 'k2'].indexOf(Buffer.from(octets).toString('latin1', at, at + length)),
    admit: (key) => {
      admitted.push(key);
      return key === 1 ? 'refuse' : 'ok';
    },
  };
  const { ask } = answererOf({ keys: new Map([[apex, keys]]) });
  const says = (name: string, type: 'A' | 'SOA' = 'A') => {
    const { rcode, answers, authorities } = decoded(ask(question(name, type))!);
    return rcode !== 'NOERROR' || answers!.length > 0 ? rcode : `NODATA ${authorities?.[0]?.name}`;
  };
  const answers: [name: string, says: string, admitted: number[]][] = [
    ['reef.test.dom.k1', 'NOERROR', [0]],
    ['reef.test.dom.K1', 'NOERROR', [0]],
    ['test.dom.k1', 'NOERROR', [0]],
    ['nobody.test.dom.k1', 'NXDOMAIN', [0]],
    ['dom.k1', `NODATA ${apex}`, [0]],
    ['k1', `NODATA ${apex}`, [0]],
    ['nothing.k1', 'NXDOMAIN', [0]],
    ['dom.k1.k1', 'NXDOMAIN', [0]],
    ['reef.test.dom.k2', 'REFUSED', [1]],
    ['reef.test.dom.k3', 'NXDOMAIN', []],
    ['k3', 'NXDOMAIN', []],
    ['reef.test.dom', 'NOERROR', [-1]],
  ];
  for (const [name, expected, asked] of answers) {
    assert.equal(says(name), expected, name);
    assert.deepEqual(admitted.splice(0), asked, name);
  }
  assert.equal(says('', 'SOA'), 'NOERROR');
  assert.deepEqual(admitted, []);
});

test('a zone without keys has no keyed names', () => {
  const { ask } = answererOf();
  assert.equal(decoded(ask(question('reef.test.dom.k1'))!).rcode, 'NXDOMAIN');
});

test('an answer stays within the room of the client, with every option there is', () => {
  const { ask } = answererOf({ cookies, nsid: 'n'.repeat(255) });
  const long = `${'a.'.repeat(100)}dom`;
  const asking = withOptions(question(long), [10, clientCookie], [3, Buffer.alloc(0)]);
  asking.writeUInt16BE(512, asking.length - 16 - 11 + 3);
  const message = ask(asking);
  assert.ok(message && message.length <= 512, `${message?.length} octets`);
  assert.deepEqual(
    optionsOf(message).map(([code]) => code),
    [10],
    'the NSID is what can be left out',
  );
});

test('another zone is added, and a newer table replaces an older one', () => {
  const own = zoneOf(vouched({ name: 'reef.test' }));
  const { answerer, ask } = answererOf({ zones: [own.share()] });
  const other = emptyZone({ apex: 'other.test' });
  answerer.replace(other.share());
  assert.equal(decoded(ask(queryPacket('test.dom.other.test', 'A'))!).rcode, 'NOERROR');
  own.replace([vouched({ name: 'meadow.test' })]);
  assert.equal(answerer.isBehind(), true);
  assert.equal(decoded(ask(question('reef.test.dom'))!).rcode, 'NOERROR', 'still the picture of before');
  answerer.replace(own.share());
  assert.equal(answerer.isBehind(), false);
  assert.equal(decoded(ask(question('reef.test.dom'))!).rcode, 'NXDOMAIN');
});
