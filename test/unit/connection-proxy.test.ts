import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionCaps } from '../../node/relay/connection-caps.ts';
import { parseProxyHeader } from '../../node/relay/connection-proxy.ts';

const v2 = (command: number, family: number, block: Buffer): Buffer => {
  const head = Buffer.from('0d0a0d0a000d0a515549540a00000000', 'hex');
  head[12] = command;
  head[13] = family;
  head.writeUInt16BE(block.length, 14);
  return Buffer.concat([head, block]);
};
const four = Buffer.from('c0000201c63364070fa00019', 'hex');
const six = Buffer.concat([
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from('20010db8000000000000000000000002', 'hex'),
  Buffer.from('0fa00019', 'hex'),
]);
const v4Source = { address: '192.0.2.1', port: 4000 };

const headers: [name: string, octets: Buffer, source: object | undefined][] = [
  ['version 1, IPv4', Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.7 4000 25\r\n'), v4Source],
  [
    'version 1, IPv6',
    Buffer.from('PROXY TCP6 2001:db8::1 2001:db8::2 4000 25\r\n'),
    { address: '2001:db8::1', port: 4000 },
  ],
  ['version 1, unknown', Buffer.from('PROXY UNKNOWN\r\n'), undefined],
  ['version 1, unknown with more', Buffer.from('PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n'), undefined],
  ['version 2, IPv4', v2(0x21, 0x11, four), v4Source],
  ['version 2, IPv4 with more', v2(0x21, 0x11, Buffer.concat([four, Buffer.alloc(9)])), v4Source],
  ['version 2, IPv6', v2(0x21, 0x21, six), { address: '2001:db8:0:0:0:0:0:1', port: 4000 }],
  ['version 2, of the proxy itself', v2(0x20, 0x00, Buffer.alloc(0)), undefined],
  ['version 2, unspecified', v2(0x21, 0x00, Buffer.alloc(4)), undefined],
  ['version 2, a Unix socket', v2(0x21, 0x31, Buffer.alloc(216)), undefined],
];
for (const [name, octets, source] of headers) {
  test(`a PROXY header of ${name}, however it is cut`, () => {
    const whole = Buffer.concat([octets, Buffer.from('EHLO x\r\n')]);
    assert.deepEqual(parseProxyHeader(whole), {
      ...{ kind: 'header', length: octets.length },
      ...(source && { source }),
    });
    for (let cut = 0; cut < octets.length; cut++)
      assert.deepEqual(parseProxyHeader(octets.subarray(0, cut)), { kind: 'partial' }, `${cut}`);
  });
}

const garbage: [name: string, octets: Buffer | string][] = [
  ['SMTP', 'EHLO x\r\n'],
  ['TLS', Buffer.from('16030100', 'hex')],
  ['an address that is none', 'PROXY TCP4 192.0.2.1111 198.51.100.7 4000 25\r\n'],
  ['the wrong family', 'PROXY TCP6 192.0.2.1 198.51.100.7 4000 25\r\n'],
  ['a port that is none', 'PROXY TCP4 192.0.2.1 198.51.100.7 99999 25\r\n'],
  ['too few words', 'PROXY TCP4 192.0.2.1\r\n'],
  ['a line without end', `PROXY UNKNOWN ${'x'.repeat(200)}`],
  ['lower case', 'proxy tcp4 192.0.2.1 198.51.100.7 4000 25\r\n'],
  ['version 3', v2(0x31, 0x11, four)],
  ['version 2, another command', v2(0x22, 0x11, four)],
  ['version 2, too short an address', v2(0x21, 0x21, four)],
  ['version 2, huge', v2(0x21, 0x11, Buffer.alloc(60_000))],
];
for (const [name, octets] of garbage) {
  test(`no PROXY header: ${name}`, () =>
    assert.deepEqual(parseProxyHeader(Buffer.from(octets)), { kind: 'malformed' }));
}

test('connections of a client and of a member are counted, told off, and given back once', () => {
  const caps = new ConnectionCaps({ perAddress: 2, perMember: 1 });
  const kinds = (address: string) => caps.enterFrom(address).kind;
  const first = caps.enterFrom('2001:db8::1');
  assert.deepEqual(
    ['2001:db8::2', '2001:db8::3', '2001:db8::4', '2001:db8::5', '2001:db8:0:1::1'].map(kinds),
    ['in', 'over', 'over', 'flood', 'in'],
  );
  assert.ok(first.kind === 'in');
  first.leave();
  first.leave();
  const again = caps.enterFrom('2001:db8::6');
  assert.ok(again.kind === 'in');
  assert.equal(kinds('2001:db8::7'), 'flood');
  // Said QUIT, and its socket is still there.
  again.close();
  again.close();
  assert.equal(kinds('2001:db8::7'), 'flood');
  again.leave();
  assert.equal(kinds('2001:db8::7'), 'in');
  const leave = caps.enterMember('did:plc:a');
  assert.equal(caps.enterMember('did:plc:a'), undefined);
  assert.ok(caps.enterMember('did:plc:b'));
  leave!();
  assert.ok(caps.enterMember('did:plc:a'));
});
