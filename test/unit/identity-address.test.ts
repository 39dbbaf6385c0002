import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressAllowed } from '../../appview/identity/address.ts';

const anywhere = { allowLoopback: false, loopbackOnly: false };
const development = { allowLoopback: true, loopbackOnly: false };
const sandbox = { allowLoopback: true, loopbackOnly: true };

// address, allowed anywhere, in development, in the sandbox
const cases: [string, boolean, boolean, boolean][] = [
  ['1.1.1.1', true, true, false],
  ['172.15.255.255', true, true, false],
  ['172.32.0.0', true, true, false],
  ['2606:4700:4700::1111', true, true, false],
  ['127.0.0.1', false, true, true],
  ['127.255.255.254', false, true, true],
  ['::1', false, true, true],
  ['::ffff:127.0.0.1', false, true, true],
  ['0.0.0.0', false, false, false],
  ['10.0.0.1', false, false, false],
  ['100.64.0.1', false, false, false],
  ['169.254.169.254', false, false, false],
  ['172.16.0.1', false, false, false],
  ['172.31.255.255', false, false, false],
  ['192.0.2.1', false, false, false],
  ['192.168.1.1', false, false, false],
  ['198.19.0.1', false, false, false],
  ['224.0.0.1', false, false, false],
  ['255.255.255.255', false, false, false],
  ['::', false, false, false],
  ['::ffff:10.0.0.1', false, false, false],
  ['::ffff:a00:1', false, false, false],
  ['::ffff:1.1.1.1', false, false, false],
  ['64:ff9b::a00:1', false, false, false],
  ['fc00::1', false, false, false],
  ['fe80::1', false, false, false],
  ['fe80::1%eth0', false, false, false],
  ['ff02::1', false, false, false],
  ['2001::1', false, false, false],
  ['2001:db8::1', false, false, false],
  ['2002:a00:1::', false, false, false],
  ['', false, false, false],
  ['localhost', false, false, false],
  ['127.1', false, false, false],
];

for (const [address, ...expected] of cases) {
  test(`${address || 'nothing'} is allowed: ${expected.join(', ')}`, () => {
    const rules = [anywhere, development, sandbox];
    assert.deepEqual(
      rules.map((rule) => addressAllowed(address, rule)),
      expected,
    );
  });
}
