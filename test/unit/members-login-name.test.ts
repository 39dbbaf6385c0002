import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wholeLogin } from '../../node/members/login-name.ts';

const logins: [name: string, given: [string, string], meant: [string, string]][] = [
  ['a DID that a client cut', ['did', 'plc:abc:atmos_key'], ['did:plc:abc', 'atmos_key']],
  [
    'a did:web that a client cut',
    ['did', 'web:reef.example:atmos_key'],
    ['did:web:reef.example', 'atmos_key'],
  ],
  ['a whole DID', ['did:plc:abc', 'atmos_key'], ['did:plc:abc', 'atmos_key']],
  ['a handle', ['reef.test', 'a:b'], ['reef.test', 'a:b']],
  ['`did` with a password without a colon', ['did', 'atmos_key'], ['did', 'atmos_key']],
];
for (const [name, given, [user, password]] of logins) {
  test(`${name} is read as it was meant`, () => {
    assert.deepEqual(wholeLogin(...given), { user, password });
  });
}
