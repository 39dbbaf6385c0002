import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  attestationPath,
  attestationUri,
  attestedDomain,
  recordKeyOf,
} from '../../appview/attestation-uri.ts';
import { memberDid } from './labels-fixtures.ts';

test('the record key of a path in our collection', () => {
  assert.equal(attestationPath('reef.test'), 'email.atmos.attestation/reef.test');
  assert.equal(recordKeyOf('email.atmos.attestation/reef.test'), 'reef.test');
  assert.equal(recordKeyOf('app.bsky.feed.post/email.atmos.attestation/reef.test'), undefined);
});

test('only the URI of an attestation names a domain', () => {
  const reef = attestationUri(memberDid, 'reef.test');
  assert.equal(reef, `at://${memberDid}/email.atmos.attestation/reef.test`);
  assert.equal(attestedDomain(reef), 'reef.test');
  for (const uri of [
    memberDid,
    `at://${memberDid}/app.bsky.feed.post/reef.test`,
    `at://${memberDid}/emailxatmos.attestation/reef.test`,
    `${reef}/more`,
    `${reef}#fragment`,
    `at://${memberDid}/email.atmos.attestation/`,
  ]) {
    assert.equal(attestedDomain(uri), undefined, uri);
  }
});
