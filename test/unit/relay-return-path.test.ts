import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { ReturnPaths } from '../../node/relay/return-path.ts';
import { newQueueId, recipientId } from '../../node/spool/ids.ts';

const key = randomBytes(32);
const paths = new ReturnPaths({ key, poolDomain: 'harbor.test' });
const id = recipientId(newQueueId(), 100);

test('a return path names its recipient, whatever case it comes back in', () => {
  const address = paths.of(id);
  assert.equal(paths.recipientOf(address), id);
  assert.equal(paths.recipientOf(address.toUpperCase()), id);
  assert.ok(address.indexOf('@') <= 64);
  assert.match(address, /^[a-z0-9.-]+@harbor\.test$/);
});

test('nobody makes one without the key', () => {
  const address = paths.of(id);
  const at = address.indexOf('@');
  for (let index = 2; index < at; index++) {
    const changed = `${address.slice(0, index)}${address[index] === '0' ? '1' : '0'}${address.slice(index + 1)}`;
    assert.equal(paths.recipientOf(changed), undefined, changed);
  }
  assert.equal(
    new ReturnPaths({ key: randomBytes(32), poolDomain: 'harbor.test' }).recipientOf(address),
    undefined,
  );
  assert.equal(new ReturnPaths({ key, poolDomain: 'meadow.test' }).recipientOf(address), undefined);
  for (const garbage of [
    '',
    '@',
    'b-@harbor.test',
    'b--@harbor.test',
    'x@harbor.test',
    `${address}@harbor.test`,
  ])
    assert.equal(paths.recipientOf(garbage), undefined, garbage);
});

test('a key that is too short is refused', () => {
  assert.throws(() => new ReturnPaths({ key: randomBytes(15), poolDomain: 'harbor.test' }), RangeError);
});
