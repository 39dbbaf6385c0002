import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAddress, TextClient } from '../../dnsbl/client-address.ts';
import { Fuzz } from '../fuzz/random.ts';

function octetsOf(text: string): string {
  const family = text.includes(':') ? 6 : 4;
  const out = new Uint8Array(family === 4 ? 4 : 16).fill(0xee);
  readAddress(text, family, out);
  return Buffer.from(out).toString('hex');
}

const addresses: [text: string, hex: string][] = [
  ['0.0.0.0', '00000000'],
  ['192.0.2.25', 'c0000219'],
  ['255.255.255.255', 'ffffffff'],
  ['::', '0'.repeat(32)],
  ['::1', `${'0'.repeat(31)}1`],
  ['1::', `0001${'0'.repeat(28)}`],
  ['2001:db8::25', '20010db8000000000000000000000025'],
  ['2001:DB8:0:1:2:3:4:5', '20010db8000000010002000300040005'],
  ['1:2:3:4:5:6:7::', '00010002000300040005000600070000'],
  ['::2:3:4:5:6:7:8', '00000002000300040005000600070008'],
  ['fe80::1%eth0', `fe80${'0'.repeat(27)}1`],
  ['fe80::%lo', `fe80${'0'.repeat(28)}`],
  ['::ffff:192.0.2.25', `${'0'.repeat(20)}ffffc0000219`],
  ['64:ff9b::192.0.2.25', `0064ff9b${'0'.repeat(16)}c0000219`],
];
for (const [text, hex] of addresses) {
  test(`${text} in octets`, () => assert.equal(octetsOf(text), hex));
}

test('whatever URL writes of an address is read back', () => {
  const fuzz = new Fuzz('dnsbl-client-address');
  for (let round = fuzz.rounds(2_000); round > 0; round--) {
    const groups = Array.from({ length: 8 }, () => fuzz.pick([0, 0, 1, 0xab, fuzz.below(65_536)]));
    const full = groups.map((group) => group.toString(16)).join(':');
    const short = new URL(`http://[${full}]/`).hostname.slice(1, -1);
    const hex = groups.map((group) => group.toString(16).padStart(4, '0')).join('');
    assert.equal(octetsOf(short), hex, short);
    assert.equal(octetsOf(full), hex, full);
  }
});

test('a client used for many packets shows the octets of the present one', () => {
  const client = new TextClient(4);
  assert.deepEqual([...client.set('192.0.2.1', 53).address], [192, 0, 2, 1]);
  assert.deepEqual([...client.set('192.0.2.1', 54).address], [192, 0, 2, 1]);
  assert.deepEqual([...client.set('198.51.100.7', 55).address], [198, 51, 100, 7]);
  assert.equal(client.port, 55);
});
