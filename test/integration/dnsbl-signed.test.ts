/** Signed questions and IXFR as they come by UDP and TCP, to every kind of thread that answers. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { decode } from 'dns-packet';
import { pino } from 'pino';
import { Access } from '../../dnsbl/access/access.ts';
import { TYPE } from '../../dnsbl/records.ts';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import { FrameReader } from '../../dnsbl/tcp.ts';
import { needsNativeDns } from '../native-dns.ts';
import { settingsWith } from '../unit/dnsbl-access-fixtures.ts';
import { apex, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import {
  key,
  oddlySigned,
  rcodeOf,
  recordsOf,
  requestOf,
  signedBy,
  stranger,
  tsigOf,
  verdictOn,
} from '../unit/dnsbl-transfer-fixtures.ts';

const vouchers = Array.from({ length: 20 }, (_, index) => `did:web:cooperative-${index}.example`);
const log = pino({ enabled: false });

async function running(t: TestContext, options: Partial<DnsServerOptions> = {}) {
  const zone = zoneOf(vouched({ name: 'reef.test' }), vouched({ name: 'long.test' }, { vouchers }));
  const server = new DnsServer({
    zones: [zone],
    listen: { host: '127.0.0.1', port: 0 },
    log,
    transfer: { keys: [key], handle: () => undefined },
    ...options,
  });
  const [at] = await server.start();
  const socket = createSocket('udp4');
  t.after(async () => {
    socket.close();
    await server.stop();
  });
  const overUdp = async (message: Buffer): Promise<Buffer> => {
    socket.send(message, at!.port, at!.host);
    const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(5000) });
    return answer;
  };
  const overTcp = async (message: Buffer): Promise<Buffer> => {
    const client = connect(at!.port, at!.host);
    client.end(Buffer.concat([Buffer.from([message.length >> 8, message.length & 0xff]), message]));
    const frames = new FrameReader();
    const messages: Buffer[] = [];
    for await (const chunk of client) messages.push(...frames.push(chunk));
    return messages[0]!;
  };
  const soa = `${apex} SOA ${zone.serial}`;
  return { zone, soa, overUdp, overTcp, count: (what: string) => server.counts().get(what)! };
}

/** For the clock of the threads, which is the real one. */
const signed = (message: Buffer, by = key) => signedBy(by, message, Date.now());
const verdict = (answer: Buffer, mac: Buffer) => verdictOn(answer, mac, Date.now());
const isSigned = (answer: Buffer) =>
  (decode(answer).additionals ?? []).some(({ type }) => (type as string) === 'TSIG');

const places: [where: string, options: Partial<DnsServerOptions>, skip: string | false][] = [
  ['the thread of the server', {}, false],
  ['a thread with a socket of node', { workers: 1, sockets: 'dgram' }, false],
  ['a thread with native sockets', { workers: 1, sockets: 'native' }, needsNativeDns()],
];
for (const [where, options, skip] of places) {
  test(`${where} signs the answer to a signed question, over UDP and TCP`, { skip }, async (t) => {
    const { soa, overUdp, overTcp, count } = await running(t, options);
    for (const ask of [overUdp, overTcp]) {
      for (const udpOctets of [undefined, 1232]) {
        const { message, mac } = signed(requestOf({ type: TYPE.SOA, udpOctets }));
        const answer = await ask(message);
        assert.deepEqual(recordsOf([answer]), [soa]);
        assert.equal(verdict(answer, mac), 'valid');
      }
    }
    assert.equal(count('dns_tsig signed'), 4);
    assert.ok(!isSigned(await overUdp(requestOf({ type: TYPE.SOA }))), 'who does not sign gets no signature');
  });

  test(`${where} answers no question that another key signed, and says why`, { skip }, async (t) => {
    const { overUdp, overTcp, count } = await running(t, options);
    const question = requestOf({ type: TYPE.SOA });
    const wrong: [message: Buffer, error: number][] = [
      [signed(question, stranger).message, 17],
      [signed(question, { name: key.name, secret: stranger.secret }).message, 16],
      [signedBy(key, question, Date.now() - 3_600_000).message, 18],
    ];
    for (const ask of [overUdp, overTcp]) {
      for (const [message, error] of wrong) {
        const answer = await ask(message);
        assert.equal(rcodeOf(answer), 9);
        assert.equal(tsigOf(answer).error, error);
        assert.deepEqual(recordsOf([answer]), []);
        assert.ok(answer.length <= message.length + 6, 'no lever for whoever forges addresses');
      }
    }
    assert.equal(count('dns_tsig rejected'), 6);
  });
}

test('a signed answer that does not fit a datagram is cut, and signed', async (t) => {
  const { overUdp, overTcp } = await running(t);
  const name = `long.test.dom.${apex}`;
  const unsigned = await overUdp(requestOf({ name, type: TYPE.TXT, udpOctets: 1232 }));
  assert.equal(recordsOf([unsigned]).length, 1);
  for (const udpOctets of [undefined, unsigned.length + 20]) {
    const { message, mac } = signed(requestOf({ name, type: TYPE.TXT, udpOctets }));
    const answer = await overUdp(message);
    assert.equal(answer[2]! & 2, 2, 'TC');
    assert.ok(answer.length <= 512, 'nothing of the record is there');
    assert.deepEqual(recordsOf([answer]), []);
    assert.equal(verdict(answer, mac), 'valid');
    const whole = await overTcp(message);
    assert.equal(recordsOf([whole]).length, 1);
    assert.equal(verdict(whole, mac), 'valid');
  }
});

test('what long names make too long for a datagram goes without a signature, and TCP has it whole', async (t) => {
  const name = `${'a.'.repeat(100)}${apex}`;
  const longKey = { name: `${'k'.repeat(60)}.`.repeat(4).slice(0, -1), secret: key.secret };
  const { overUdp, overTcp } = await running(t, { transfer: { keys: [longKey], handle: () => undefined } });
  const isBare = (answer: Buffer, rcode: number) => {
    assert.ok(answer.length <= 512, `${answer.length} octets`);
    assert.deepEqual([rcodeOf(answer), answer[2]! & 2, isSigned(answer)], [rcode, 2, false]);
  };
  const stranger = oddlySigned(requestOf({ name, type: TYPE.SOA }), 255);
  isBare(await overUdp(stranger), 9);
  assert.equal(tsigOf(await overTcp(stranger)).error, 17);
  const roomy = oddlySigned(requestOf({ name, type: TYPE.SOA, udpOctets: 1232 }), 255);
  assert.equal(tsigOf(await overUdp(roomy)).error, 17);
  const { message } = signed(requestOf({ name, type: TYPE.SOA }), longKey);
  isBare(await overUdp(message), 0);
  assert.ok(isSigned(await overTcp(message)));
});

test('an IXFR over UDP gets the SOA alone, whoever asks; an AXFR is refused', async (t) => {
  const { zone, soa, overUdp } = await running(t);
  for (const serial of [zone.serial - 1, zone.serial]) {
    const ixfr = requestOf({ type: TYPE.IXFR, serial });
    const { message, mac } = signed(ixfr);
    const [plain, answer] = [await overUdp(ixfr), await overUdp(message)];
    assert.deepEqual(recordsOf([plain]), [soa]);
    assert.deepEqual(recordsOf([answer]), [soa]);
    assert.equal(verdict(answer, mac), 'valid');
  }
  const elsewhere = [{ name: 'other.test' }, { name: `dom.${apex}` }, { name: `reef.test.dom.${apex}` }];
  for (const where of elsewhere)
    assert.equal(rcodeOf(await overUdp(requestOf({ type: TYPE.IXFR, serial: 1, ...where }))), 5, where.name);
  assert.equal(rcodeOf(await overUdp(requestOf())), 5);
});

test('a TSIG that is none is FORMERR, not an answer', async (t) => {
  const { overUdp, overTcp } = await running(t);
  const { message } = signed(requestOf({ type: TYPE.SOA }));
  // Class IN in place of ANY.
  message[tsigOf(message).at + key.name.length + 2 + 3] = 1;
  for (const ask of [overUdp, overTcp]) {
    const answer = await ask(message);
    assert.equal(rcodeOf(answer), 1);
    assert.deepEqual(recordsOf([answer]), []);
  }
});

test('a server without keys says that it does not know the key', async (t) => {
  const { overUdp } = await running(t, { transfer: undefined });
  const answer = await overUdp(signed(requestOf({ type: TYPE.SOA })).message);
  assert.deepEqual([rcodeOf(answer), tsigOf(answer).error], [9, 17]);
});

test('the rate limit and the rules hold for signed questions as for others', async (t) => {
  const settings = settingsWith({ limit: { perName: 1, slip: 1 } });
  const { overUdp } = await running(t, { access: new Access({ settings }) });
  const slipped = async () => {
    const { message, mac } = signed(requestOf({ type: TYPE.SOA }));
    const answer = await overUdp(message);
    assert.equal(verdict(answer, mac), 'valid');
    return (answer[2]! & 2) !== 0 && recordsOf([answer]).length === 0;
  };
  let asked = 0;
  while (!(await slipped())) assert.ok(++asked < 200, 'never limited');
});
