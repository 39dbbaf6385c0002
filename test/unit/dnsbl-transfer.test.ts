/** AXFR and IXFR: who gets them, what is in them, and how they end. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, mock, test } from 'node:test';
import { decode } from 'dns-packet';
import { pino } from 'pino';
import { MAX_REMEMBERED_CHANGES } from '../../dnsbl/limits.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { TYPE } from '../../dnsbl/records.ts';
import { DnsServer } from '../../dnsbl/server.ts';
import { FrameReader } from '../../dnsbl/tcp.ts';
import type { TransfersOptions } from '../../dnsbl/transfer/transfers.ts';
import { type Zone, ZoneMoved } from '../../dnsbl/zone.ts';
import { apex, decoded, emptyZone, vouched, zoneOf } from './dnsbl-fixtures.ts';
import {
  clientAt,
  key,
  rcodeOf,
  recordsOf,
  requestOf,
  signedBy,
  stranger,
  transfersOf,
  verdictOn,
  type World,
} from './dnsbl-transfer-fixtures.ts';

let world: World | undefined;
async function start(zone: Zone, options?: Partial<TransfersOptions>): Promise<World> {
  world = await transfersOf(zone, options);
  return world;
}
afterEach(async () => {
  await world?.stop();
  world = undefined;
});

function zoneOfMembers(count: number): Zone {
  const zone = emptyZone();
  zone.replace(members(count));
  return zone;
}

function members(count: number): Listing[] {
  return Array.from({ length: count }, (_, index) => vouched({ name: `member-${index}.test` }));
}

function soa(serial: number): string {
  return `${apex} SOA ${serial}`;
}

test('an AXFR is the SOA, every record, and the SOA', async () => {
  const zone = zoneOf(
    vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: true }),
    vouched({ name: 'sunk.test' }, { list: 'blocked', reason: 'spam' }),
    vouched({ address: '192.0.2.25' }, { kind: 2 }),
  );
  const { ask } = await start(zone);
  const [message] = await ask(requestOf());
  const records = recordsOf([decoded(message!) && message!]);
  assert.equal(records[0], soa(zone.serial));
  assert.equal(records.at(-1), soa(zone.serial));
  const text = records.slice(1, -1).join('\n');
  for (const line of [
    `${apex} NS ns1.harbor.test`,
    `${apex} NS ns2.harbor.test`,
    `test.dom.${apex} A 127.0.0.2`,
    `2.0.0.127.ip.${apex} A 127.0.0.2`,
    `2.0.0.127.block.${apex} A 127.0.0.2`,
    `reef.test.dom.${apex} A 127.0.4.1`,
    `*.reef.test.dom.${apex} A 127.0.4.1`,
    `reef.test._vouch.${apex} TXT transaction`,
    `*.reef.test._vouch.${apex} TXT transaction`,
    `sunk.test.block.${apex} A 127.0.0.2`,
    `25.2.0.192.ip.${apex} A 127.0.2.1`,
  ]) {
    assert.ok(records.includes(line), `${line} is missing in\n${text}`);
  }
  assert.equal(records.length, new Set(records).size + 1, 'no record comes twice but the SOA');
});

test('a large zone comes in messages of up to 16 KB, each with the question, the OPT in the first', async () => {
  const { ask } = await start(zoneOfMembers(1000));
  const messages = await ask(requestOf({ udpOctets: 1232 }));
  assert.ok(messages.length > 5);
  for (const [index, message] of messages.entries()) {
    assert.ok(message.length <= 16_384);
    if (index < messages.length - 1) assert.ok(message.length > 15_000, 'filled');
    const { questions, additionals, flag_aa: authoritative } = decode(message) as ReturnType<typeof decoded>;
    assert.equal(questions?.[0]?.name, apex);
    assert.equal(additionals?.length, index === 0 ? 1 : 0);
    assert.ok(authoritative);
  }
  // 1,000 listings of three records, five test points of two, two NS, two SOA.
  assert.equal(recordsOf(messages).length, 3000 + 12 + 2 + 2);
  const plain = recordsOf(messages).reduce((sum, line) => sum + line.length, 0);
  assert.ok(messages.reduce((sum, message) => sum + message.length, 0) < plain, 'owners are compressed');
});

test('every message of a signed transfer is signed', async () => {
  const { ask } = await start(zoneOfMembers(300));
  const { message, mac } = signedBy(key, requestOf());
  const messages = await ask(message);
  assert.ok(messages.length > 1);
  assert.equal(verdictOn(messages[0]!, mac), 'valid');
  for (const part of messages) assert.match(part.toString('latin1'), /hmac-sha256/);
});

test('what changes during a transfer is not in it', async () => {
  const zone = zoneOfMembers(1000);
  const { ask, transfers } = await start(zone);
  const before = recordsOf(await ask(requestOf()));
  const messages: Buffer[] = [];
  for await (const message of transfers.handle(requestOf(), clientAt())!) {
    messages.push(message);
    for (let index = 0; index < 100; index++)
      zone.apply(vouched({ name: `member-${999 - index}.test` }, { removed: index % 2 === 0, trust: 3 }));
  }
  assert.deepEqual(recordsOf(messages).sort(), before.sort());
});

test('a transfer that cannot be kept whole ends the connection', async () => {
  const zone = emptyZone();
  const { transfers, counts } = await start(zone);
  // The journal's part of so many changes is not what is tested.
  zone.onChange = undefined;
  zone.replace(members(MAX_REMEMBERED_CHANGES + 1));
  const messages = transfers.handle(requestOf(), clientAt())![Symbol.asyncIterator]();
  await messages.next();
  for (let index = 0; index <= MAX_REMEMBERED_CHANGES; index++)
    zone.apply(vouched({ name: `member-${index}.test` }, { trust: 3 }));
  await assert.rejects(async () => {
    while (!(await messages.next()).done);
  }, ZoneMoved);
  assert.equal(counts.get('dns_transfer_cuts moved'), 1);
});

const rules: [what: string, allow: { prefix?: string; key?: string }[], says: Record<string, number>][] = [
  ['no rule', [], { unsigned: 5, signed: 5, elsewhere: 5 }],
  ['a prefix', [{ prefix: '192.0.2.0/28' }], { unsigned: 0, signed: 0, elsewhere: 5, stranger: 0 }],
  ['an address', [{ prefix: '192.0.2.1' }], { unsigned: 0, elsewhere: 5 }],
  ['an IPv6 prefix', [{ prefix: '2001:db8::/32' }], { unsigned: 5, signed: 5 }],
  ['a key', [{ key: key.name }], { unsigned: 5, signed: 0, elsewhere: 5, signedElsewhere: 0, stranger: 5 }],
  [
    'both in one rule',
    [{ key: key.name, prefix: '192.0.2.0/28' }],
    { unsigned: 5, signed: 0, signedElsewhere: 5, stranger: 5 },
  ],
  ['either', [{ key: key.name }, { prefix: '192.0.2.200' }], { unsigned: 5, signed: 0, elsewhere: 0 }],
];
for (const [what, allow, says] of rules) {
  test(`allowed by ${what}: ${JSON.stringify(says)}`, async () => {
    const { ask } = await start(zoneOfMembers(3), { allow: new Map([[apex, allow]]) });
    const requests: Record<string, [Buffer, number]> = {
      unsigned: [requestOf(), 1],
      signed: [signedBy(key, requestOf()).message, 1],
      elsewhere: [requestOf(), 200],
      signedElsewhere: [signedBy(key, requestOf()).message, 200],
      stranger: [signedBy(stranger, requestOf()).message, 1],
    };
    for (const [name, rcode] of Object.entries(says)) {
      const [message, last] = requests[name]!;
      const answers = await ask(message, clientAt(last));
      assert.equal(rcodeOf(answers[0]!), rcode, name);
      assert.equal(recordsOf(answers).length > 0, rcode === 0, name);
    }
  });
}

test('a refusal of a signed request is signed', async () => {
  const { ask } = await start(zoneOfMembers(3), { allow: new Map() });
  const { message, mac } = signedBy(key, requestOf());
  const [answer] = await ask(message);
  assert.equal(rcodeOf(answer!), 5);
  assert.equal(verdictOn(answer!, mac), 'valid');
});

const odd: [what: string, request: Buffer, rcode: number][] = [
  ['a zone that is not ours', requestOf({ name: 'other.test' }), 9],
  ['a name below the apex', requestOf({ name: `dom.${apex}` }), 9],
  ['another class', requestOf({ class: 3 }), 9],
  ['an IXFR without an SOA', requestOf({ type: TYPE.IXFR }), 1],
];
for (const [what, request, rcode] of odd) {
  test(`${what} is answered ${rcode}`, async () => {
    const { ask } = await start(zoneOfMembers(3));
    const answers = await ask(request);
    assert.deepEqual(answers.map(rcodeOf), [rcode]);
  });
}

test('rules, keys and secondaries that make no sense are refused at once', async () => {
  for (const options of [
    { allow: new Map([[apex, [{}]]]) },
    { allow: new Map([[apex, [{ key: 'nobody' }]]]) },
    { allow: new Map([[apex, [{ prefix: '192.0.2.0/33' }]]]) },
    { keys: [key, key] },
    { keys: [{ name: 'short', secret: Buffer.alloc(8) }] },
    { notify: new Map([[apex, [{ host: 'ns.test' }]]]) },
    { notify: new Map([[apex, [{ host: '192.0.2.1', key: 'nobody' }]]]) },
  ]) {
    await assert.rejects(transfersOf(emptyZone(), options), RangeError);
  }
});

test('transfers at once are bounded, in all and for each peer, and a place is free again', async () => {
  const { transfers, ask, counts } = await start(zoneOfMembers(1000), {
    limits: { maxTransfers: 3, maxTransfersPerPeer: 2 },
  });
  const begin = async (last: number) => {
    const messages = transfers.handle(requestOf(), clientAt(last))![Symbol.asyncIterator]();
    await messages.next();
    return messages;
  };
  const first = await begin(1);
  await begin(1);
  assert.deepEqual((await ask(requestOf(), clientAt(1))).map(rcodeOf), [2]);
  await begin(2);
  assert.deepEqual((await ask(requestOf(), clientAt(3))).map(rcodeOf), [2]);
  assert.equal(counts.get('dns_transfer_answers busy'), 2);
  await first.return?.();
  assert.ok((await ask(requestOf(), clientAt(3))).length > 1);
});

test('a transfer ends at its limits of octets and of time, and when all is stopped', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { transfers, counts } = await start(zoneOfMembers(3000), {
      limits: { maxTransferOctets: 100_000, maxTransferMs: 5000 },
    });
    const rest = async (messages: AsyncIterator<Buffer>) => {
      while (!(await messages.next()).done);
    };
    const begin = () => transfers.handle(requestOf(), clientAt())![Symbol.asyncIterator]();
    await assert.rejects(rest(begin()), /octets/);
    const slow = begin();
    await slow.next();
    mock.timers.tick(5000);
    await assert.rejects(rest(slow), /time/);
    const last = begin();
    await last.next();
    await transfers.stop();
    await assert.rejects(rest(last), /stopped/);
    for (const reason of ['octets', 'time', 'stopped'])
      assert.equal(counts.get(`dns_transfer_cuts ${reason}`), 1, reason);
  } finally {
    mock.timers.reset();
  }
});

test('over a connection a transfer that is cut ends with it, and never looks whole', async () => {
  const { transfers } = await start(zoneOfMembers(3000), { limits: { maxTransferOctets: 300_000 } });
  const server = new DnsServer({
    zones: [],
    listen: { host: '127.0.0.1', port: 0 },
    log: pino({ enabled: false }),
    transfer: {
      // The server's client is 127.0.0.1, to whom the rules give nothing.
      handle: (message) => transfers.handle(message, clientAt()),
    },
  });
  const [{ port } = { port: 0 }] = await server.start();
  const socket = connect(port, '127.0.0.1');
  const request = requestOf();
  socket.write(Buffer.concat([Buffer.from([0, request.length]), request]));
  const messages: Buffer[] = [];
  const frames = new FrameReader();
  socket.on('data', (chunk) => messages.push(...frames.push(chunk)));
  socket.on('error', () => socket.destroy());
  await once(socket, 'close');
  const records = recordsOf(messages);
  assert.ok(records.length > 100);
  assert.match(records[0]!, / SOA /);
  assert.doesNotMatch(records.at(-1)!, / SOA /);
  await server.stop();
});

test('an IXFR is the SOA, what went, what came, and the SOA', async () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }), vouched({ name: 'tide.test' }));
  const { ask } = await start(zone);
  const before = zone.serial;
  zone.apply(vouched({ name: 'tide.test' }, { removed: true }));
  zone.apply(vouched({ name: 'reef.test' }, { trust: 2 }));
  // Comes and goes again: no trace of it.
  zone.apply(vouched({ name: 'short.test' }));
  zone.apply(vouched({ name: 'short.test' }, { removed: true }));
  const records = recordsOf(await ask(requestOf({ type: TYPE.IXFR, serial: before })));
  const text = (name: string) =>
    `did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa vouched-by=did:web:harbor.test,did:web:meadow.test url=https://harbor.test/listing/${name}`;
  assert.deepEqual(records, [
    soa(zone.serial),
    soa(before),
    `tide.test.dom.${apex} A 127.0.3.1`,
    `tide.test.dom.${apex} TXT ${text('tide.test')}`,
    `tide.test._vouch.${apex} TXT transaction`,
    `reef.test.dom.${apex} A 127.0.3.1`,
    soa(zone.serial),
    `reef.test.dom.${apex} A 127.0.3.2`,
    soa(zone.serial),
  ]);
});

test('an IXFR from the present serial, or a later one, is the SOA alone', async () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const { ask } = await start(zone);
  for (const serial of [zone.serial, zone.serial + 1000]) {
    const answers = await ask(requestOf({ type: TYPE.IXFR, serial }));
    assert.deepEqual(recordsOf(answers), [soa(zone.serial)]);
  }
});

test('an IXFR that the journal does not reach is the whole zone', async () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const { ask, counts } = await start(zone);
  zone.apply(vouched({ name: 'tide.test' }));
  const whole = recordsOf(await ask(requestOf()));
  assert.deepEqual(recordsOf(await ask(requestOf({ type: TYPE.IXFR, serial: zone.serial - 100 }))), whole);
  assert.equal(counts.get('dns_transfer_answers ixfr'), undefined);
});

test('changes that are longer than the zone are sent as the zone', async () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const { ask, counts } = await start(zone);
  const before = zone.serial;
  for (let index = 0; index < 500; index++)
    zone.apply(vouched({ name: 'reef.test' }, { url: `https://x.test/${index}` }));
  const whole = recordsOf(await ask(requestOf()));
  assert.deepEqual(recordsOf(await ask(requestOf({ type: TYPE.IXFR, serial: before }))), whole);
  assert.equal(counts.get('dns_transfer_answers ixfr'), undefined);
});

test('what is no request for a zone, or cannot be read, is left to the usual answer', async () => {
  const { transfers } = await start(zoneOfMembers(3));
  const laterEdns = requestOf({ udpOctets: 1232 });
  laterEdns[laterEdns.length - 5] = 1;
  const notify = requestOf({ type: TYPE.SOA });
  notify.writeUInt16BE(0x2000, 2);
  const signed = signedBy(key, requestOf({ type: TYPE.SOA })).message;
  const cut = requestOf().subarray(0, 20);
  for (const message of [notify, cut, Buffer.alloc(0), requestOf({ type: TYPE.A }), signed, laterEdns])
    assert.equal(transfers.handle(message, clientAt()), undefined);
});
