import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { newSecret, signedHeaders } from '../../node/webhooks/signature.ts';
import { needs } from '../peers.ts';

const body = '{"type":"message.sent","data":{"recipient":"ünï@harbor.example"}}';
const message = { id: 'evt_42', at: 1_700_000_000_999, body };

/** Written from the spec alone: https://www.standardwebhooks.com, "Verifying webhook authenticity". */
function isGenuine(headers: Record<string, string>, text: string, secret: string): boolean {
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${text}`;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = `v1,${createHmac('sha256', key).update(signed, 'utf8').digest('base64')}`;
  return headers['webhook-signature']!.split(' ').includes(expected);
}

test('the example that libraries of the format share', () => {
  const headers = signedHeaders(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'], {
    ...{ id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', at: 1_614_265_330_000, body: '{"test": 2432232314}' },
  });
  assert.deepEqual(headers, {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  });
});

test('a receiver that follows the spec accepts it, and nothing that was changed', () => {
  const secret = newSecret();
  const headers = signedHeaders([secret], message);
  assert.ok(isGenuine(headers, body, secret));
  assert.ok(!isGenuine(headers, `${body} `, secret));
  assert.ok(!isGenuine({ ...headers, 'webhook-id': 'evt_43' }, body, secret));
  assert.ok(!isGenuine({ ...headers, 'webhook-timestamp': '1700000001' }, body, secret));
  assert.ok(!isGenuine(headers, body, newSecret()));
});

test('while a secret changes, both are good', () => {
  const secrets = [newSecret(), newSecret()];
  const headers = signedHeaders(secrets, message);
  for (const secret of secrets) assert.ok(isGenuine(headers, body, secret));
});

test('a secret is whsec_ and 32 random bytes', () => {
  const secret = newSecret();
  assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
  assert.notEqual(secret, newSecret());
});

test('Python verifies it', { skip: needs('python3') }, () => {
  const program = `
import base64, hashlib, hmac, json, sys
o = json.load(sys.stdin)
h = o['headers']
signed = '.'.join([h['webhook-id'], h['webhook-timestamp'], o['body']]).encode()
want = base64.b64encode(hmac.new(base64.b64decode(o['secret'][6:]), signed, hashlib.sha256).digest()).decode()
print(any(hmac.compare_digest('v1,' + want, got) for got in h['webhook-signature'].split(' ')))
`;
  const secret = newSecret();
  const input = JSON.stringify({ headers: signedHeaders([newSecret(), secret], message), body, secret });
  const run = spawnSync('/usr/bin/python3', ['-c', program], { input, encoding: 'utf8' });
  assert.equal(run.stdout, 'True\n', run.stderr);
});
