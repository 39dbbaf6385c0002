import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientNetwork } from '../../node/client-network.ts';
import { LoginThrottle } from '../../node/members/login-throttle.ts';

const networks: [address: string, network: string][] = [
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:0DB8:0001:0002::', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
  ['', ''],
];
for (const [address, network] of networks) {
  test(`${address || 'no address'} counts as ${network || 'itself'}`, () =>
    assert.equal(clientNetwork(address), network));
}

test('what is remembered is bounded, and the quietest is forgotten first', () => {
  let clock = 0;
  const throttle = new LoginThrottle({ now: () => clock, maxRemembered: 100, delayMs: 1, forgetMs: 1e9 });
  for (let n = 0; n < 5; n++) throttle.failed('192.0.2.1', 'loud');
  for (let n = 0; n < 99; n++) throttle.failed(`198.51.100.${n}`, `quiet ${n}`);
  assert.equal(throttle.failed('192.0.2.1', 'other'), 8, 'the address is still remembered');
  for (let n = 0; n < 200; n++) throttle.failed(`203.0.113.${n}`, `stranger ${n}`);
  assert.equal(throttle.failed('192.0.2.1', 'third'), 0);
  clock += 1;
});

test('wrong logins are forgotten one by one, and a clock that steps back forgets nothing', () => {
  let clock = 1_000_000;
  const throttle = new LoginThrottle({ now: () => clock, delayMs: 100, forgetMs: 1_000, maxDelayMs: 5_000 });
  const delays = Array.from({ length: 12 }, () => throttle.failed('192.0.2.1', 'a'));
  assert.deepEqual(delays, [0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
  clock -= 500_000;
  assert.equal(throttle.failed('192.0.2.1', 'a'), 5000);
  clock += 10_000;
  assert.equal(throttle.failed('192.0.2.1', 'a'), 200, 'three of thirteen are left, and this one');
  clock += 60_000;
  assert.equal(throttle.failed('192.0.2.1', 'a'), 0);
});
