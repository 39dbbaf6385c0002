/** The server, asked by BIND's dig and Knot's kdig, over UDP and TCP. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { DnsServer } from '../../dnsbl/server.ts';
import { needs } from '../peers.ts';
import { apex, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';

const run = promisify(execFile);
const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
const zone = zoneOf(
  vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: true }),
  vouched({ name: 'long.test' }, { vouchers }),
  vouched({ address: '192.0.2.25' }, { kind: 2 }),
  vouched({ address: '2001:db8::25' }, { kind: 2 }),
);
const server = new DnsServer({
  zones: [zone],
  listen: { host: '127.0.0.1', port: 0 },
  log: pino({ enabled: false }),
});
let port = 0;
before(async () => {
  port = (await server.start())[0]!.port;
});
after(() => server.stop());

async function dig(...args: string[]): Promise<string> {
  const { stdout } = await run('dig', ['@127.0.0.1', '-p', `${port}`, '+tries=1', '+time=5', ...args]);
  return stdout;
}

const skip = needs('dig');

const answers: [question: string[], short: string][] = [
  [['reef.test.dom', 'A'], '127.0.4.1'],
  [['mail.reef.test.dom', 'A'], '127.0.4.1'],
  [['reef.test._vouch', 'TXT'], '"transaction"'],
  [['TEST.dom', 'A'], '127.0.0.2'],
  [['2.0.0.127.ip', 'A'], '127.0.0.2'],
  [['25.2.0.192.ip', 'A'], '127.0.2.1'],
  [[`5.2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2.ip`, 'A'], '127.0.2.1'],
  [['INVALID.dom', 'A'], ''],
  [['nobody.test.dom', 'A'], ''],
];
for (const transport of ['+notcp', '+tcp']) {
  for (const [[name, type], short] of answers) {
    test(`dig ${transport} ${type} ${name} says ${short || 'nothing'}`, { skip }, async () => {
      assert.equal((await dig(transport, '+short', `${name}.${apex}`, `${type}`)).trim(), short);
    });
  }
}

test('a miss is NXDOMAIN with the SOA, an empty non-terminal NODATA with the SOA', { skip }, async () => {
  for (const [name, status] of [
    ['nobody.test.dom', 'NXDOMAIN'],
    ['0.192.ip', 'NOERROR'],
  ]) {
    const text = await dig(`${name}.${apex}`, 'A');
    assert.match(text, new RegExp(`status: ${status}`));
    assert.match(text, /flags: qr aa rd; QUERY: 1, ANSWER: 0, AUTHORITY: 1/);
    assert.match(
      text,
      /list\.harbor\.test\.\s+60\s+IN\s+SOA\s+ns1\.harbor\.test\. dns\.harbor\.test\. \d+ 900 300 604800 60/,
    );
  }
});

test('the letters of a question come back as they went', { skip }, async () => {
  assert.match(
    await dig(`ReEf.tEsT.dOm.${apex}`, 'A'),
    /^ReEf\.tEsT\.dOm\.list\.harbor\.test\.\s+300\s+IN\s+A\s+127\.0\.4\.1$/m,
  );
});

test('a long TXT is cut over UDP without EDNS, and dig comes back over TCP', { skip }, async () => {
  const before = server.counts();
  const text = await dig('+noedns', `long.test.dom.${apex}`, 'TXT');
  for (const what of ['dns_queries udp', 'dns_queries tcp'])
    assert.equal(server.counts().get(what)! - before.get(what)!, 1, what);
  assert.match(text, /vouched-by=did:web:cooperative-0\.example/);
  assert.match(await dig('+noedns', '+ignore', `long.test.dom.${apex}`, 'TXT'), /flags: qr aa tc rd;/);
  assert.doesNotMatch(await dig(`long.test.dom.${apex}`, 'TXT'), /flags: qr aa tc/);
});

// The matrix of ednscomp.isc.org, with what RFC 6891 asks for each.
const matrix: [flags: string[], says: RegExp, never?: RegExp][] = [
  [['+noedns'], /status: NOERROR/, /OPT PSEUDOSECTION/],
  [['+edns=0'], /status: NOERROR[\s\S]*EDNS: version: 0, flags:; udp: 1232/],
  [['+edns=1', '+noednsneg'], /status: BADVERS[\s\S]*EDNS: version: 0/, /ANSWER SECTION/],
  [['+edns=0', '+ednsopt=100'], /status: NOERROR[\s\S]*EDNS: version: 0/, /OPT=100/],
  [['+edns=1', '+noednsneg', '+ednsopt=100'], /status: BADVERS/, /OPT=100/],
  [['+edns=0', '+ednsflags=0x80'], /status: NOERROR[\s\S]*EDNS: version: 0, flags:; udp/, /MBZ/],
  [['+edns=0', '+dnssec'], /status: NOERROR[\s\S]*EDNS: version: 0, flags: do; udp/],
  [['+edns=0', '+nsid', '+cookie', '+subnet=192.0.2.0/24'], /status: NOERROR[\s\S]*EDNS: version: 0/],
  [['+edns=0', '+bufsize=512'], /status: NOERROR/, /flags: qr aa tc/],
  [['+edns=0', '+tcp'], /status: NOERROR[\s\S]*EDNS: version: 0/],
  [['+noedns', '+adflag', '+cdflag', '+zflag'], /flags: qr aa rd; QUERY/, /MBZ/],
  [['+noedns', '+header-only'], /status: FORMERR/],
  [['+opcode=NOTIFY'], /status: NOTIMP/],
  [['+opcode=3'], /status: NOTIMP/],
];
for (const [flags, says, never] of matrix) {
  test(`dig ${flags.join(' ')} is answered as RFC 6891 asks`, { skip }, async () => {
    const text = await dig(...flags, apex, 'SOA');
    assert.match(text, says);
    if (never) assert.doesNotMatch(text, never);
  });
}

const refused: string[][] = [
  ['example.org', 'A'],
  ['-c', 'CH', 'version.bind', 'TXT'],
  ['+tcp', apex, 'AXFR'],
  ['.', 'NS'],
];
for (const args of refused) {
  test(`dig ${args.join(' ')} is refused`, { skip }, async () => {
    assert.match(await dig(...args), /status: REFUSED|Transfer failed/);
  });
}

test('dig ANY gets one set (RFC 8482)', { skip }, async () => {
  assert.match(await dig('+notcp', `reef.test.dom.${apex}`, 'ANY'), /ANSWER: 1,/);
});

test('kdig sends several queries on one connection and gets each answer', {
  skip: needs('kdig'),
}, async () => {
  const questions = [`reef.test.dom.${apex}`, `nobody.test.dom.${apex}`, `test.dom.${apex}`];
  const args = ['@127.0.0.1', '-p', `${port}`, '+tcp', '+keepopen', '+short', ...questions];
  const { stdout } = await run('kdig', args);
  assert.deepEqual(stdout.trim().split('\n'), ['127.0.4.1', '127.0.0.2']);
});
