/** The same questions by dig and kdig to our server and to NSD with the zone that we export: alike, or listed here with a reason. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { exportZone } from '../../dnsbl/files/export.ts';
import { DnsServer } from '../../dnsbl/server.ts';
import { needs } from '../peers.ts';
import { apex, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import { dig, type Said } from './consumers/dig.ts';
import { type Nsd, startNsd } from './consumers/nsd.ts';
import { newFolder } from './consumers/program.ts';

const run = promisify(execFile);
const skip = needs('dig', 'nsd');

const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
const zone = zoneOf(
  vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: true }),
  vouched({ name: 'deep.inside.reef.test' }),
  vouched({ name: 'long.test' }, { vouchers }),
  vouched({ name: 'list.test' }, { trust: 3, mailTypes: ['transaction', 'list'] }),
  vouched({ name: 'new.test' }, { trust: 0 }),
  vouched({ name: 'xn--mller-kva.test' }),
  vouched({ address: '192.0.2.25' }, { kind: 2, trust: 2 }),
  vouched({ address: '2001:db8::25' }, { kind: 2 }),
  vouched({ name: 'sunk.test' }, { list: 'blocked', reason: 'spam', coverSubdomains: true }),
  vouched({ address: '203.0.113.13' }, { list: 'blocked', reason: 'spam' }),
);
const nsid = 'ns1.harbor.test';
const version = 'atmos';
const log = pino({ enabled: false });
const common = { zones: [zone], log, nsid, version };
const server = new DnsServer({ ...common, listen: { host: '127.0.0.1', port: 0 } });
const server6 = new DnsServer({ ...common, listen: { host: '::1', port: 0 } });

let port = 0;
let port6 = 0;
let nsd: Nsd;
if (!skip) {
  before(async () => {
    port = (await server.start())[0]!.port;
    port6 = (await server6.start())[0]!.port;
    nsd = await startNsd({ apex, zoneFile: await exported(), nsid, version });
  });
  after(async () => {
    await nsd?.stop();
    await server.stop();
    await server6.stop();
  });
}

/** As an operator gives it to other servers. */
async function exported(): Promise<string> {
  const { dir, remove } = newFolder('export');
  const { files } = await exportZone(zone, { folder: dir, formats: ['bind'] });
  const text = readFileSync(join(dir, files[0]!.name), 'utf8');
  remove();
  return text;
}

const nibbles = `5.2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2`;
const names = [
  ...['reef.test.dom', 'REEF.TesT.dOm', 'mail.reef.test.dom', 'a.b.mail.reef.test.dom', '*.reef.test.dom'],
  // What exists below a covered name takes it out of the wildcard's reach (RFC 4592 §2.2.2).
  ...['deep.inside.reef.test.dom', 'inside.reef.test.dom', 'x.inside.reef.test.dom'],
  ...['a.deep.inside.reef.test.dom', 'test.dom', 'a.test.dom', 'invalid.dom', 'dom', 'nobody.test.dom'],
  ...['list.test.dom', 'new.test.dom', 'xn--mller-kva.test.dom', 'long.test.dom', 'a.list.test.dom'],
  ...['reef.test._vouch', 'mail.reef.test._vouch', 'list.test._vouch', 'new.test._vouch', '_vouch'],
  ...[
    '25.2.0.192.ip',
    '26.2.0.192.ip',
    '2.0.192.ip',
    '0.192.ip',
    '192.ip',
    '193.ip',
    'a.25.2.0.192.ip',
    'ip',
  ],
  ...[
    '2.0.0.127.ip',
    '1.0.0.127.ip',
    `${nibbles}.ip`,
    `${nibbles.slice(2)}.ip`,
    '2.ip',
    '3.ip',
    `6.${nibbles.slice(2)}.ip`,
  ],
  ...['sunk.test.block', 'a.sunk.test.block', '13.113.0.203.block', '14.113.0.203.block', '2.0.0.127.block'],
  ...['test.block', 'block', 'www', 'dom.dom', '\\001.dom', 'a\\.b.dom', `${'a'.repeat(63)}.dom`],
].map((name) => `${name}.${apex}`);
const types = ['A', 'TXT', 'AAAA', 'SOA', 'NS', 'CNAME', 'DS', 'TYPE65400'];
const all = [...names, apex].flatMap((name) => types.map((type) => [name, type] as const));
/** A hit, a cover, a miss, an empty non-terminal, what is too long for 512 octets, the apex. */
const some = [
  ...[`reef.test.dom.${apex} A`, `reef.test.dom.${apex} TXT`, `MaiL.reef.test.dom.${apex} A`],
  ...[`nobody.test.dom.${apex} A`, `0.192.ip.${apex} A`, `long.test.dom.${apex} TXT`],
  ...[`${apex} SOA`, `${apex} NS`, `${apex} MX`],
].map((question) => question.split(' '));

/** What may be different, and why. @returns both without it */
type Difference = (ours: Said, theirs: Said) => [Said, Said];

/** RFC 2181 §9: a client that sees TC ignores the rest, and what it may hold is not said. We send none of it. */
const truncated: Difference = (ours, theirs) =>
  [ours, theirs].map((said) =>
    said.flags.split(' ').includes('tc') ? { ...said, answer: [], authority: [] } : said,
  ) as [Said, Said];

async function compare(
  flags: readonly string[],
  questions: readonly (readonly string[])[],
  difference: Difference = (ours, theirs) => [ours, theirs],
): Promise<void> {
  const [ours, theirs] = await Promise.all([dig(port, flags, questions), dig(nsd.port, flags, questions)]);
  for (const [index, question] of questions.entries()) {
    const [a, b] = difference(ours[index]!, theirs[index]!);
    assert.deepEqual(a, b, `${flags.join(' ')} ${question.join(' ')}`);
  }
}

test('over IPv6 the answers are the same, by UDP and TCP', { skip }, async () => {
  for (const flags of [['+nocookie'], ['+nocookie', '+tcp', '+keepopen']]) {
    const ours = await dig(port6, flags, all, '::1');
    assert.deepEqual(ours, await dig(nsd.port, flags, all, '::1'));
  }
});

for (const flags of [['+nocookie'], ['+nocookie', '+tcp', '+keepopen']]) {
  test(`${all.length} questions by dig ${flags.join(' ')} are answered as by NSD`, { skip }, async () => {
    await compare(flags, all);
  });
}

const matrix: string[][] = [
  ['+noedns'],
  ['+noedns', '+norecurse'],
  ['+noedns', '+adflag'],
  ['+noedns', '+cdflag'],
  ['+noedns', '+zflag'],
  ['+noedns', '+aaflag', '+raflag'],
  ['+edns=0', '+nocookie'],
  ['+edns=0', '+cookie'],
  ['+edns=0', '+nsid', '+nocookie'],
  ['+edns=0', '+dnssec', '+nocookie'],
  ['+edns=0', '+dnssec', '+nsid', '+cookie', '+subnet=192.0.2.0/24'],
  ['+edns=0', '+ednsopt=100', '+nocookie'],
  ['+edns=0', '+ednsopt=100:0102', '+nocookie'],
  ['+edns=0', '+ednsflags=0x80', '+nocookie'],
  ['+edns=0', '+bufsize=512', '+nocookie'],
  ['+edns=0', '+bufsize=0', '+nocookie'],
  ['+edns=0', '+bufsize=4096', '+nocookie'],
  ['+edns=0', '+padding=128', '+nocookie'],
  ['+edns=0', '+expire', '+nocookie'],
  ['+edns=1', '+noednsneg', '+nocookie'],
  ['+edns=1', '+noednsneg', '+ednsopt=100', '+nocookie'],
  ['+edns=1', '+noednsneg', '+ednsflags=0x80', '+nocookie'],
];
for (const flags of matrix) {
  for (const more of [['+notcp', '+ignore'], ['+tcp']]) {
    const words = [...flags, ...more];
    test(`dig ${words.join(' ')} is answered as by NSD`, { skip }, async () => {
      await compare(words, some, truncated);
    });
  }
}

test('ANY gets the one set that NSD gives, and the SOA at the apex', { skip }, async () => {
  const questions = [...names, apex].map((name) => [name, 'ANY']);
  await compare(['+nocookie', '+notcp'], questions);
  await compare(['+nocookie', '+tcp'], questions);
});

test('names that are not ours', { skip }, async () => {
  const others = ['example.org', '.', 'test', 'harbor.test', `not${apex}`, `${apex}.org`, 'reef.test.dom'];
  const questions = others.flatMap((name) => ['A', 'NS', 'SOA', 'ANY'].map((type) => [name, type]));
  await compare(['+nocookie'], [...questions, [`reef.test.dom.${apex}`, 'A', 'CH']]);
});

test('other opcodes are not implemented here as there', { skip }, async () => {
  for (const opcode of ['IQUERY', 'STATUS', 'UPDATE', '3', '6', '15']) {
    await compare(
      [`+opcode=${opcode}`, '+noedns'],
      [
        [apex, 'SOA'],
        ['example.org', 'SOA'],
      ],
    );
  }
});

test('a header without a question is malformed here as there', { skip }, async () => {
  await compare(['+noedns', '+header-only'], [[apex, 'SOA']]);
});

test('a zone transfer is refused here as there', { skip }, async () => {
  for (const to of [port, nsd.port]) {
    const { stdout } = await run('dig', ['@127.0.0.1', '-p', `${to}`, '+tries=1', '+time=5', apex, 'AXFR']);
    assert.match(stdout, /Transfer failed/);
    assert.doesNotMatch(stdout, /SOA/);
  }
});

// RFC 1995 §2: over UDP the SOA, which everybody may ask for; over TCP we ask who may have more.
test('different: an IXFR over UDP gets the SOA alone, which NSD refuses', { skip }, async () => {
  const ask = async (to: number) =>
    (await run('dig', ['@127.0.0.1', '-p', `${to}`, '+notcp', apex, 'IXFR=1'])).stdout;
  const [ours, theirs] = [await ask(port), await ask(nsd.port)];
  assert.equal(ours.match(/\sIN\s+SOA\s+ns1/g)?.length, 1);
  assert.doesNotMatch(ours, /\s(A|TXT|NS)\s|failed/);
  assert.doesNotMatch(theirs, /SOA/);
});

const entry = `reef.test.dom.${apex}`;
/** Status, flags, and how many answers: what is different, and why ours is as it is. */
const differences: [flags: string, question: string[], ours: string, theirs: string, why: string][] = [
  [
    '+edns=255 +noednsneg +dnssec',
    [apex, 'SOA'],
    'QUERY BADVERS, qr rd, version: 0, flags: do; udp: 1232, 0',
    'QUERY BADVERS, qr rd, version: 0, flags:; udp: 1232, 0',
    'RFC 3225 §3: DO is copied into the response, whatever that says',
  ],
  ...['MAILA', 'MAILB'].map((type): (typeof differences)[number] => [
    '+noedns',
    [entry, type],
    'QUERY NOTIMP, qr rd, , 0',
    'QUERY NOERROR, qr aa rd, , 0',
    'RFC 1035 §3.2.3 lets them stand for sets of types; "there are none" would be said of those',
  ]),
  ...['TYPE41', 'TYPE128', 'TKEY', 'TSIG'].map((type): (typeof differences)[number] => [
    '+noedns',
    [entry, type],
    'QUERY FORMERR, qr rd, , 0',
    'QUERY NOERROR, qr aa rd, , 0',
    'RFC 6895 §3.1: a meta type is never the type of a record, so nobody can ask whether there is one',
  ]),
  [
    '+noedns +opcode=NOTIFY',
    [apex, 'SOA'],
    'NOTIFY NOTIMP, qr rd, , 0',
    'NOTIFY REFUSED, qr rd, , 0',
    'NSD can be a secondary and was not told of this primary; a primary has no use for NOTIFY',
  ],
  ...['STATUS', 'UPDATE', '6'].map((opcode): (typeof differences)[number] => [
    `+opcode=${opcode}`,
    [apex, 'SOA'],
    `${opcode === '6' ? 'RESERVED6' : opcode} NOTIMP, qr rd, version: 0, flags:; udp: 1232, 0`,
    `${opcode === '6' ? 'RESERVED6' : opcode} NOTIMP, qr rd, , 0`,
    'RFC 6891 §6.1.1: to a request with an OPT the answer has one, whatever it says',
  ]),
  [
    '+header-only',
    [apex, 'SOA'],
    'QUERY FORMERR, qr rd, , 0',
    'QUERY NOERROR, qr rd, version: 0, flags:; udp: 1232, 0',
    'RFC 9619 §4: exactly one question',
  ],
  [
    '+noedns',
    [entry, 'A', 'ANY'],
    'QUERY REFUSED, qr rd, , 0',
    'QUERY NOERROR, qr rd, , 1',
    'RFC 1035 §3.7.1: an answer to class ANY is never authoritative, so it is of no use to a client of a list',
  ],
  ...['version.bind', 'VERSION.server', 'hostname.bind', 'id.server'].map(
    (name): (typeof differences)[number] => [
      '+noedns',
      [name, 'TXT', 'CH'],
      'QUERY NOERROR, qr aa rd, , 1',
      'QUERY NOERROR, qr rd, , 1',
      'RFC 4892 §3: the server speaks for itself here; BIND sets AA too',
    ],
  ),
  [
    '+noedns',
    ['version.bind', 'A', 'CH'],
    'QUERY NOERROR, qr aa rd, , 0',
    'QUERY REFUSED, qr rd, , 0',
    'the name is there, the type is not: NODATA as for every other name',
  ],
];
for (const [flags, question, ours, theirs, why] of differences) {
  test(`different: dig ${flags} ${question.join(' ')}: ${why}`, { skip }, async () => {
    const words = [...flags.split(' '), '+nocookie'];
    assert.equal(brief((await dig(port, words, [question]))[0]!), ours);
    assert.equal(brief((await dig(nsd.port, words, [question]))[0]!), theirs);
  });
}

function brief({ status, flags, edns = '', answer }: Said): string {
  return [status, flags, edns, answer.length].join(', ');
}

test('different: a class that is not served is refused with its question, which NSD leaves out', {
  skip,
}, async () => {
  const questions = ['HS', 'NONE', 'CLASS300'].map((recordClass) => [apex, 'SOA', recordClass]);
  // RFC 1035 §4.1.2; resolvers match an answer by its question.
  await compare(['+nocookie'], questions, (ours, theirs) => [{ ...ours, question: [] }, theirs]);
});

const kdigs = [
  ...[['+noedns'], ['+edns=0'], ['+edns=1'], ['+nsid'], ['+dnssec'], ['+bufsize=512'], ['+bufsize=4096']],
  ...[
    ['+padding=64'],
    ['+cdflag', '+adflag'],
    ['+zflag', '+noedns'],
    ['+norec'],
    ['+tcp'],
    ['+tcp', '+keepopen'],
  ],
];
for (const flags of kdigs) {
  test(`kdig ${flags.join(' ')} is answered as by NSD`, { skip: skip || needs('kdig') }, async () => {
    const [ours, theirs] = await Promise.all([kdig(port, flags), kdig(nsd.port, flags)]);
    assert.match(ours, /status: /);
    assert.equal(ours, theirs);
  });
}

/** All that it says, but numbers of messages, times and ports. */
async function kdig(to: number, flags: readonly string[]): Promise<string> {
  const short = some.filter(([name]) => !name!.startsWith('long'));
  const args = ['@127.0.0.1', '-p', `${to}`, '+retry=0', '+timeout=5', '+header', ...flags];
  const { stdout } = await run('kdig', [...args, ...short.flat()]);
  return stdout.replace(/id: \d+/g, 'id').replace(/^;; (From|Received|Time) .*\n/gm, '');
}
