/** TSIG: what is taken for signed, what is refused and how. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Keyring, parseKeys } from '../../dnsbl/transfer/keys.ts';
import { readRequest } from '../../dnsbl/transfer/request.ts';
import { startMs } from './dnsbl-fixtures.ts';
import {
  key,
  keyring,
  oddlySigned,
  rcodeOf,
  requestOf,
  signedBy,
  stranger,
  tsigOf,
  verdictOn,
} from './dnsbl-transfer-fixtures.ts';

const request = requestOf();
const { message: signed, mac: requestMac } = signedBy(key, request);
const tsig = tsigOf(signed);
/** Where the MAC's length stands: behind key, fixed part, algorithm, time and fudge. */
const macAt = signed.length - 6 - 32;

function read(message: Buffer, atMs = startMs) {
  return readRequest(message, keyring, () => atMs);
}

/** With another MAC, and lengths that fit it. */
function withMac(mac: Buffer): Buffer {
  const before = Buffer.from(signed.subarray(0, macAt - 2));
  const added = mac.length - 32;
  const lengthAt = tsig.at + key.name.length + 2 + 8;
  before.writeUInt16BE(before.readUInt16BE(lengthAt) + added, lengthAt);
  return Buffer.concat([before, Buffer.from([0, mac.length]), mac, signed.subarray(macAt + 32)]);
}

test('a request signed with a known key is known by it', () => {
  const reading = read(signed);
  assert.equal(reading.kind, 'request');
  assert.equal(reading.request.keyName, '\x10harbor-secondary');
});

test('the letters of the name of a key do not matter', () => {
  const upper = Buffer.from(signed);
  upper.write('HARBOR', tsig.at + 1, 'latin1');
  assert.equal(read(upper).kind, 'request');
});

test('an algorithm has a name of 255 octets at most', () => {
  const reasonOf = (octets: number) => {
    const reading = read(oddlySigned(request, octets));
    return reading.kind === 'rejected' && reading.reason;
  };
  assert.deepEqual([255, 256, 4000].map(reasonOf), ['badkey', 'formerr', 'formerr']);
});

test('a message whose id a forwarder changed is proved over its original one', () => {
  const forwarded = Buffer.from(signed);
  forwarded.writeUInt16BE(0x9999, 0);
  assert.equal(read(forwarded).kind, 'request');
});

const other = Buffer.from(signed);
other[20]! ^= 1;
const wrongMac = Buffer.from(tsig.mac);
wrongMac[31]! ^= 1;
const unknown = signedBy({ name: 'nobody', secret: key.secret }, request).message;
const md5 = Buffer.from(signed);
md5.write('hmac-sha512', md5.indexOf('hmac-sha256'), 'latin1');

const rejections: [what: string, message: Buffer, reason: string, error: number][] = [
  ['an unknown key', unknown, 'badkey', 17],
  ['an unknown algorithm', md5, 'badkey', 17],
  ['a changed message', other, 'badsig', 16],
  ['a changed MAC', withMac(wrongMac), 'badsig', 16],
  ['no MAC', withMac(Buffer.alloc(0)), 'badsig', 16],
  ['the secret of another key', signedBy({ ...stranger, name: key.name }, request).message, 'badsig', 16],
  ['a MAC of 16 octets', withMac(tsig.mac.subarray(0, 16)), 'badtrunc', 22],
  ['a MAC of 31 octets', withMac(tsig.mac.subarray(0, 31)), 'badtrunc', 22],
  ['a wrong MAC of 16 octets', withMac(wrongMac.subarray(16)), 'badsig', 16],
  ['a time 301 s ago', signedBy(key, request, startMs - 301_000).message, 'badtime', 18],
  ['a time 301 s ahead', signedBy(key, request, startMs + 301_000).message, 'badtime', 18],
];
for (const [what, message, reason, error] of rejections) {
  test(`${what} is answered NOTAUTH with ${reason.toUpperCase()}`, () => {
    const reading = read(message);
    assert.ok(reading.kind === 'rejected');
    assert.equal(reading.reason, reason);
    assert.equal(rcodeOf(reading.answer), 9);
    const answered = tsigOf(reading.answer);
    assert.equal(answered.error, error);
    // RFC 8945 §5.3.2: a MAC only where the request's own was right.
    const isProved = reason === 'badtime' || reason === 'badtrunc';
    assert.equal(answered.mac.length, isProved ? 32 : 0);
    if (reason === 'badtime') {
      assert.equal(answered.time, tsigOf(message).time);
      assert.equal(answered.other.readUIntBE(0, 6), startMs / 1000);
    }
    if (isProved) assert.equal(verdictOn(reading.answer, tsigOf(message).mac, answered.time * 1000), 'valid');
  });
}

test('a time 300 s away is near enough', () => {
  assert.equal(read(signed, startMs + 300_000).kind, 'request');
  assert.equal(read(signed, startMs - 300_000).kind, 'request');
});

const twice = Buffer.concat([signed, signed.subarray(tsig.at)]);
twice.writeUInt16BE(2, 10);
const notLast = Buffer.concat([signed, Buffer.from('00002904d0000000000000', 'hex')]);
notLast.writeUInt16BE(2, 10);
const at = tsig.at + key.name.length + 2;
const classIn = Buffer.from(signed);
classIn.writeUInt16BE(1, at + 2);
const withTtl = Buffer.from(signed);
withTtl.writeUInt32BE(1, at + 4);

const malformed: [what: string, message: Buffer][] = [
  ['two TSIG records', twice],
  ['a TSIG that is not the last record', notLast],
  ['a TSIG of class IN', classIn],
  ['a TSIG with a TTL', withTtl],
  ['a MAC of 15 octets', withMac(tsig.mac.subarray(0, 15))],
  ['a MAC of 33 octets', withMac(Buffer.concat([tsig.mac, Buffer.of(0)]))],
];
for (const [what, message] of malformed) {
  test(`${what}: FORMERR`, () => {
    const reading = read(message);
    assert.ok(reading.kind === 'rejected');
    assert.equal(rcodeOf(reading.answer), 1);
  });
}

test('a TSIG whose owner is compressed is read', () => {
  const nested = { name: 'secondary.list.harbor.test', secret: key.secret };
  const plain = signedBy(nested, request).message;
  const name = Buffer.from('\x09secondary\x04list\x06harbor\x04test\0', 'latin1');
  const nameAt = plain.indexOf(name, 20);
  const pointed = Buffer.concat([
    plain.subarray(0, nameAt),
    Buffer.from('\x09secondary\xc0\x0c', 'latin1'),
    plain.subarray(nameAt + name.length),
  ]);
  assert.equal(readRequest(pointed, new Keyring([nested]), () => startMs).kind, 'request');
});

test('an unsigned question has no key, and its answer is not signed', () => {
  const reading = read(requestOf());
  assert.ok(reading.kind === 'request');
  assert.equal(reading.request.keyName, undefined);
  assert.equal(reading.request.sign(request), request);
});

test('the messages of a stream are signed one over the other', () => {
  const reading = read(signed);
  assert.ok(reading.kind === 'request');
  const [first, second] = [reading.request.sign(request), reading.request.sign(request)];
  assert.equal(verdictOn(first, requestMac), 'valid');
  // The second covers the first's MAC and only the timers, so it does not verify as a first.
  assert.equal(verdictOn(second, requestMac), 'badsig');
  assert.equal(first.length, request.length + reading.request.signatureOctets);
});

test('keys are read from lines as kdig -y takes them', () => {
  const secret = Buffer.from(key.secret).toString('base64');
  const keys = parseKeys(
    `# secondaries\n\n hmac-sha256:harbor-secondary:${secret} \nhmac-sha256:a.test:${secret}\n`,
  );
  assert.deepEqual(keys, [key, { name: 'a.test', secret: key.secret }]);
});

const badKeys: [what: string, line: string, says: RegExp][] = [
  ['another algorithm', 'hmac-md5:a:AAAAAAAAAAAAAAAAAAAAAAAA', /line 1/],
  ['no algorithm', 'name:AAAAAAAAAAAAAAAAAAAAAAAA', /line 1/],
  ['no base64', 'hmac-sha256:a:se cret', /line 1/],
  ['a short secret', 'hmac-sha256:a:AAAA', /less than 16 octets/],
  ['no name', 'hmac-sha256::AAAAAAAAAAAAAAAAAAAAAAAAAAAA', /cannot name/],
];
for (const [what, line, says] of badKeys) {
  test(`a line of keys with ${what} is refused, and not repeated`, () => {
    assert.throws(
      () => parseKeys(line),
      (error: Error) => says.test(error.message) && !error.message.includes('AAAA'),
    );
  });
}
