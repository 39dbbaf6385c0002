import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Notice } from '../../node/enforcement/operator-notices.ts';
import { labelAlerts } from '../../node/label-alerts.ts';

const peer = 'did:web:meadow.test';

function alerts() {
  const told: Notice[] = [];
  return { told, ...labelAlerts((notice) => told.push(notice)) };
}

test('a quarantine is told of with its reason and with what ends it', () => {
  const { told, onQuarantine } = alerts();
  onQuarantine!(peer, 'future_cursor', 'we are at 7');
  assert.equal(told[0]!.subject, `The labels of ${peer} are quarantined`);
  assert.match(
    told[0]!.text,
    /future_cursor \(we are at 7\)[\s\S]+atmos peer release did:web:meadow\.test\n$/,
  );
});

test('a changed key is told of with both keys and the time from which it counts', () => {
  const { told, onKeyChange } = alerts();
  onKeyChange!(peer, { before: 'did:key:zOld', after: 'did:key:zNew', countsFrom: Date.UTC(2026, 1, 3) });
  assert.match(
    told[0]!.text,
    /zOld\nnow: +did:key:zNew[\s\S]+2026-02-03T00:00:00\.000Z[\s\S]+peer trust-key/,
  );
});

test('labels that are served no more are told of by their number', () => {
  const { told, onVanished } = alerts();
  onVanished!(peer, 30, 100);
  assert.match(told[0]!.text, /^30 of the 100 labels/);
});
