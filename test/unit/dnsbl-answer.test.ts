import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import { answer, apex, ask, decoded, emptyZone, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';

const zone = zoneOf(vouched({ name: 'reef.test' }));

/** dns-packet cannot write it: the packet, edited. */
function edited(packet: Buffer, edit: (packet: Buffer) => void): Buffer {
  const copy = Buffer.from(packet);
  edit(copy);
  return copy;
}

test('the opcode comes back', () => {
  const notify = edited(queryPacket(apex, 'SOA'), (bytes) => bytes.writeUInt8(0x20, 2));
  const reply = answer(notify, 'udp', [zone]);
  assert.equal(reply.kind === 'answered' && reply.message.readUInt16BE(2), 0xa004);
});

function rcodeOf(packet: Buffer): number {
  const reply = answer(packet, 'udp', [zone]);
  assert.equal(reply.kind, 'answered');
  return (reply.message[3] as number) & 0xf;
}

test('an answer repeats id, RD and the letters of the question, is authoritative and offers no recursion', () => {
  const reply = ask(zone, 'ReEf.TeSt.DoM');
  assert.equal(reply.id, 0x1234);
  assert.equal(reply.questions?.[0]?.name, `ReEf.TeSt.DoM.${apex}`);
  assert.equal(reply.answers?.[0]?.name, `ReEf.TeSt.DoM.${apex}`);
  assert.equal(reply.flags, 0x0400 | 0x0100, 'AA and RD, no more');
});

test('AD, CD and Z of a query are not repeated', () => {
  const packet = edited(queryPacket(`reef.test.dom.${apex}`, 'A'), (bytes) => bytes.writeUInt16BE(0x0070, 2));
  const reply = answer(packet, 'udp', [zone]);
  assert.equal(reply.kind === 'answered' && reply.message.readUInt16BE(2), 0x8400);
});

test('positive answers live 300 s, negative ones 60 s by their SOA', () => {
  const [hit] = ask(zone, 'reef.test.dom').answers ?? [];
  assert.equal(hit && 'ttl' in hit && hit.ttl, 300);
  for (const [name, rcode] of [
    ['nobody.test.dom', 'NXDOMAIN'],
    ['dom', 'NOERROR'],
  ] as const) {
    const miss = ask(zone, name);
    assert.equal(miss.rcode, rcode);
    assert.equal(miss.answers?.length, 0);
    const [soa] = miss.authorities ?? [];
    assert.ok(soa?.type === 'SOA');
    assert.deepEqual([soa.name, soa.ttl, soa.data.minimum], [apex, 60, 60]);
  }
});

test('RFC 2308: a positive TTL below the negative one wins in negative answers', () => {
  const [soa] = ask(emptyZone({ ttlSeconds: 30 }), 'nobody.test.dom').authorities ?? [];
  assert.equal(soa?.type === 'SOA' && soa.ttl, 30);
});

test('the apex has an SOA and every name server', () => {
  const [soa] = ask(zone, '', 'SOA').answers ?? [];
  assert.ok(soa?.type === 'SOA');
  assert.deepEqual([soa.ttl, soa.data.mname, soa.data.rname], [300, 'ns1.harbor.test', 'dns.harbor.test']);
  const names = (ask(zone, '', 'NS').answers ?? []).map((record) => record.type === 'NS' && record.data);
  assert.deepEqual(names, ['ns1.harbor.test', 'ns2.harbor.test']);
  assert.equal(ask(zone, '', 'A').authorities?.length, 1, 'NODATA');
});

test('other types at a name that exists are NODATA', () => {
  for (const type of ['AAAA', 'MX', 'CNAME', 'SOA', 'NS', 'DS', 'RRSIG'] as const) {
    const reply = ask(zone, 'reef.test.dom', type);
    assert.deepEqual(
      [reply.rcode, reply.answers?.length, reply.authorities?.length],
      ['NOERROR', 0, 1],
      type,
    );
  }
});

test('RFC 8482: ANY gets one record set', () => {
  assert.deepEqual(
    ask(zone, 'reef.test.dom', 'ANY').answers?.map(({ type }) => type),
    ['A'],
  );
  assert.deepEqual(
    ask(zone, '', 'ANY').answers?.map(({ type }) => type),
    ['SOA'],
  );
  assert.equal(ask(zone, 'nobody.test.dom', 'ANY').rcode, 'NXDOMAIN');
});

test('outside the zones everything is refused, without a claim of authority', () => {
  for (const name of ['example.org.', 'harbor.test.', `x${apex}.`, '.']) {
    const reply = ask(zone, name, 'A', { edns: {} });
    assert.deepEqual([reply.rcode, reply.flag_aa, reply.answers?.length], ['REFUSED', false, 0], name);
    assert.equal(reply.additionals?.length, 1);
  }
});

test('a label that contains the octets of the apex is not below it', () => {
  const inner = Buffer.from('\x04list\x06harbor\x04test', 'latin1');
  const question = Buffer.concat([
    Buffer.from([inner.length + 1, 0x78]),
    inner,
    Buffer.from([0, 0, 1, 0, 1]),
  ]);
  const header = Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.equal(rcodeOf(Buffer.concat([header, question])), 5);
});

test('a label with a dot is not two labels', () => {
  const name = Buffer.from('\x09reef.test\x03dom\x04list\x06harbor\x04test\0', 'latin1');
  const header = Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.equal(rcodeOf(Buffer.concat([header, name, Buffer.from([0, 1, 0, 1])])), 3);
});

test('of two zones the inner one answers for its names', () => {
  const inner = emptyZone({ apex: `inner.${apex}` });
  const reply = answer(queryPacket(`inner.${apex}`, 'SOA'), 'udp', [inner, zone]);
  const [soa] = reply.kind === 'answered' ? (decoded(reply.message).answers ?? []) : [];
  assert.equal(soa?.name, `inner.${apex}`);
});

const faults: [what: string, rcode: number, edit: (packet: Buffer) => Buffer][] = [
  ['CHAOS class', 5, (p) => edited(p, (b) => b.writeUInt16BE(3, b.length - 2))],
  ['class ANY', 5, (p) => edited(p, (b) => b.writeUInt16BE(255, b.length - 2))],
  ['AXFR', 5, (p) => edited(p, (b) => b.writeUInt16BE(252, b.length - 4))],
  ['IXFR', 5, (p) => edited(p, (b) => b.writeUInt16BE(251, b.length - 4))],
  ['MAILB', 4, (p) => edited(p, (b) => b.writeUInt16BE(253, b.length - 4))],
  ['a question for OPT', 1, (p) => edited(p, (b) => b.writeUInt16BE(41, b.length - 4))],
  ['a question for TSIG', 1, (p) => edited(p, (b) => b.writeUInt16BE(250, b.length - 4))],
  ['opcode NOTIFY', 4, (p) => edited(p, (b) => b.writeUInt8(0x20, 2))],
  [
    'opcode UPDATE with no question',
    4,
    (p) => edited(p.subarray(0, 12), (b) => b.writeUInt32BE(0x28000000, 2)),
  ],
  ['no question', 1, (p) => edited(p.subarray(0, 12), (b) => b.writeUInt16BE(0, 4))],
  ['two questions', 1, (p) => edited(Buffer.concat([p, p.subarray(12)]), (b) => b.writeUInt16BE(2, 4))],
  ['65,535 questions', 1, (p) => edited(p, (b) => b.writeUInt16BE(65_535, 4))],
  [
    'a pointer as question',
    1,
    (p) => Buffer.concat([p.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]),
  ],
  ['label type 0x40', 1, (p) => edited(p, (b) => b.writeUInt8(0x44, 12))],
  ['an octet behind the end', 1, (p) => Buffer.concat([p, Buffer.alloc(1)])],
  ['a question cut short', 1, (p) => p.subarray(0, -1)],
  ['records announced and missing', 1, (p) => edited(p, (b) => b.writeUInt16BE(1, 10))],
  ['65,535 records announced', 1, (p) => edited(p, (b) => b.writeUInt16BE(65_535, 6))],
];
for (const [what, rcode, edit] of faults) {
  test(`${what} gets RCODE ${rcode} and no record`, () => {
    const packet = edit(queryPacket(`reef.test.dom.${apex}`, 'A'));
    assert.equal(rcodeOf(packet), rcode);
    const reply = answer(packet, 'tcp', [zone]);
    assert.equal(reply.kind === 'answered' && decode(reply.message).answers?.length, 0);
  });
}

test('a name of 255 octets is read, one of 256 is not', () => {
  const labels = (octets: number) => {
    const last = octets - 1 - 3 * 64 - 1;
    const sizes = [63, 63, 63, last];
    return Buffer.concat([
      ...sizes.map((size) => Buffer.concat([Buffer.from([size]), Buffer.alloc(size, 0x61)])),
      Buffer.from([0, 0, 1, 0, 1]),
    ]);
  };
  const header = Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.equal(rcodeOf(Buffer.concat([header, labels(255)])), 5);
  assert.equal(rcodeOf(Buffer.concat([header, labels(256)])), 1);
});

test('what is no query gets no answer', () => {
  const packet = queryPacket(apex, 'SOA');
  const response = edited(packet, (bytes) => bytes.writeUInt8(0x80, 2));
  assert.deepEqual(answer(response, 'udp', [zone]), { kind: 'dropped', reason: 'response' });
  for (const octets of [0, 1, 11]) {
    assert.deepEqual(answer(packet.subarray(0, octets), 'udp', [zone]), { kind: 'dropped', reason: 'short' });
  }
});

test('EDNS is answered with EDNS, and only then', () => {
  assert.equal(ask(zone, 'reef.test.dom').additionals?.length, 0);
  const [opt] =
    ask(zone, 'reef.test.dom', 'A', { edns: { udpPayloadSize: 4096, flags: 0x80ff } }).additionals ?? [];
  assert.ok(opt?.type === 'OPT');
  assert.equal(opt.udpPayloadSize, 1232);
  assert.equal(opt.flags, 0x8000, 'DO is repeated, unknown flags are not');
});

test('an unknown EDNS version is BADVERS, whatever it asks', () => {
  for (const name of ['reef.test.dom', 'example.org.']) {
    const reply = ask(zone, name, 'A', { edns: { ednsVersion: 1 } });
    const [opt] = reply.additionals ?? [];
    assert.ok(opt?.type === 'OPT');
    assert.deepEqual([opt.extendedRcode, opt.ednsVersion, reply.rcode], [1, 0, 'NOERROR']);
    assert.equal(reply.answers?.length, 0);
  }
});

const opt = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
const withRecords = (answers: number, additional: number, ...records: Buffer[]) =>
  edited(Buffer.concat([queryPacket(`reef.test.dom.${apex}`, 'A'), ...records]), (bytes) => {
    bytes.writeUInt16BE(answers, 6);
    bytes.writeUInt16BE(additional, 10);
  });
const options = (...octets: number[]) => {
  const copy = Buffer.concat([opt, Buffer.from(octets)]);
  copy.writeUInt16BE(octets.length, 9);
  return copy;
};
test('RFC 6891 §6.1.1: also what cannot be answered has an OPT, where the query had one that can be read', () => {
  const asked = queryPacket(`reef.test.dom.${apex}`, 'A', { flags: 0x8000 });
  const unread: [what: string, rcode: number, packet: Buffer, opts: number][] = [
    ['another opcode', 4, edited(asked, (b) => b.writeUInt8(0x28, 2)), 1],
    ['an octet behind it', 1, Buffer.concat([asked, Buffer.alloc(1)]), 1],
    ['two', 1, withRecords(0, 2, opt, opt), 1],
    ['half an option', 1, withRecords(0, 1, options(0, 100, 0)), 1],
    ['cut short', 1, asked.subarray(0, -3), 0],
    ['an octet behind none', 1, Buffer.concat([queryPacket(apex, 'A'), Buffer.alloc(1)]), 0],
  ];
  for (const [what, rcode, packet, opts] of unread) {
    const reply = answer(packet, 'udp', [zone]);
    assert.ok(reply.kind === 'answered');
    const { additionals = [] } = decode(reply.message);
    assert.deepEqual([(reply.message[3] as number) & 15, additionals.length], [rcode, opts], what);
    assert.equal(reply.message.length, 12 + 11 * opts);
    if (opts === 1 && packet.length === asked.length)
      assert.equal(reply.message.readUInt8(12 + 7), 0x80, 'DO');
  }
});

const edns: [what: string, rcode: number, packet: Buffer][] = [
  ['an unknown option', 0, withRecords(0, 1, options(0, 100, 0, 2, 7, 7))],
  [
    'another record beside OPT',
    0,
    withRecords(0, 2, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]), opt),
  ],
  [
    'a record whose owner ends in label type 0x40',
    1,
    withRecords(0, 1, Buffer.from([0x40, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])),
  ],
  ['two OPT', 1, withRecords(0, 2, opt, opt)],
  ['OPT among the answers', 1, withRecords(1, 0, opt)],
  ['OPT of another owner than the root', 1, withRecords(0, 1, Buffer.concat([Buffer.from([1, 0x61]), opt]))],
  ['an option longer than its record', 1, withRecords(0, 1, options(0, 100, 0, 9, 7))],
  ['half an option', 1, withRecords(0, 1, options(0, 100, 0))],
  ['data longer than the packet', 1, withRecords(0, 1, options(0, 100, 0, 0).subarray(0, -1))],
  [
    'nine records',
    1,
    withRecords(0, 9, ...Array<Buffer>(9).fill(Buffer.from([0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]))),
  ],
];
for (const [what, rcode, packet] of edns) {
  test(`${what} gets RCODE ${rcode}`, () => {
    assert.equal(rcodeOf(packet), rcode);
  });
}

test('what does not fit is cut to nothing with TC, and is whole over TCP', () => {
  const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
  const long = zoneOf(vouched({ name: 'reef.test' }, { vouchers }));
  const cases: [octets: number | undefined, truncated: boolean][] = [
    [undefined, true],
    [100, true],
    [512, true],
    [1232, false],
    [4096, false],
  ];
  for (const [udpPayloadSize, truncated] of cases) {
    const edns = udpPayloadSize === undefined ? undefined : { udpPayloadSize };
    const reply = ask(long, 'reef.test.dom', 'TXT', { edns });
    assert.deepEqual(
      [reply.flag_tc, reply.answers?.length],
      [truncated, truncated ? 0 : 1],
      `${udpPayloadSize}`,
    );
  }
  const whole = ask(long, 'reef.test.dom', 'TXT', { transport: 'tcp' });
  assert.deepEqual([whole.flag_tc, whole.answers?.length], [false, 1]);
});

test('even the longest name with the longest usual explanation fits 1,232 octets', () => {
  const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
  const name = `${'a.'.repeat((253 - '.dom.'.length - apex.length - 4) / 2)}test`;
  const long = zoneOf(vouched({ name }, { vouchers, url: 'https://harbor.test/listing/x' }));
  const reply = ask(long, `${name}.dom`, 'TXT', { edns: {} });
  assert.deepEqual([reply.flag_tc, reply.answers?.length], [false, 1]);
});
