import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Attempts } from '../../node/enforcement/attempts.ts';
import type { OwnEvent } from '../../node/enforcement/event-store.ts';
import { log, reef, start } from './enforcement-fixtures.ts';

function setUp() {
  const recorded: OwnEvent[] = [];
  const written = { isBroken: false };
  const arrived = Promise.withResolvers<void>();
  const counted: string[] = [];
  const attempts = new Attempts({
    record: (events) => {
      if (written.isBroken) throw new Error('the disk is full');
      recorded.push(...[events].flat());
      arrived.resolve();
    },
    ...{ log, now: () => start, attemptsEveryMs: 5, loginsEveryMs: 5 },
    count: (what) => counted.push(what),
  });
  return { attempts, recorded, arrived: arrived.promise, written, counted };
}

test('refused attempts of a second are one event for each member, domain, key and code', async () => {
  const { attempts, recorded, arrived } = setUp();
  const attempt = { did: reef, domain: 'reef.test', keyId: 'k1', refused: 'RATE_LIMITED' };
  attempts.attempted({ ...attempt, recipients: 2 });
  attempts.attempted({ ...attempt, recipients: 3 });
  attempts.attempted({ did: reef, recipients: 1, refused: 'RATE_LIMITED' });
  assert.equal(recorded.length, 0);
  await arrived;
  const rest = { refused: 'RATE_LIMITED' };
  assert.deepEqual(recorded, [
    {
      type: 'relay_attempt',
      did: reef,
      at: start,
      domain: 'reef.test',
      detail: { ...rest, recipients: 5, keyId: 'k1' },
    },
    { type: 'relay_attempt', did: reef, at: start, detail: { ...rest, recipients: 1 } },
  ]);
});

test('wrong logins are one event for each address, with who they said they were', async () => {
  const { attempts, recorded, arrived } = setUp();
  attempts.authFailed({ address: '192.0.2.1', user: 'x'.repeat(1000), did: undefined });
  attempts.authFailed({ address: '192.0.2.1', user: reef, did: reef });
  attempts.authFailed({ address: '192.0.2.2', user: 'admin', did: undefined });
  await arrived;
  assert.deepEqual(recorded, [
    {
      type: 'auth_failure',
      did: reef,
      detail: { address: '192.0.2.1', count: 2, users: ['x'.repeat(100), reef] },
    },
    { type: 'auth_failure', did: '', detail: { address: '192.0.2.2', count: 1, users: ['admin'] } },
  ]);
});

test('a flood from everywhere is a hundred addresses and the rest', () => {
  const { attempts, recorded } = setUp();
  for (let n = 0; n < 30_000; n++)
    attempts.authFailed({ address: `2001:db8::${n}`, user: 'admin', did: undefined });
  for (let n = 0; n < 7; n++) attempts.authFailed({ address: '2001:db8::7', user: `u${n}`, did: undefined });
  attempts.stop();
  assert.equal(recorded.length, 101);
  assert.deepEqual([recorded[0]!.detail.address, recorded[0]!.detail.count], ['2001:db8::7', 8]);
  assert.equal((recorded[0]!.detail.users as string[]).length, 5);
  const sum = recorded.reduce((total, { detail }) => total + Number(detail.count), 0);
  assert.equal(sum, 30_007);
});

test('stop writes what is there', () => {
  const { attempts, recorded } = setUp();
  attempts.attempted({ did: reef, recipients: 1, refused: 'RATE_LIMITED' });
  attempts.stop();
  assert.equal(recorded.length, 1);
  attempts.stop();
  assert.equal(recorded.length, 1);
});

test('a disk that fails costs these figures alone', () => {
  const { attempts, written, counted } = setUp();
  written.isBroken = true;
  attempts.attempted({ did: reef, recipients: 1, refused: 'RATE_LIMITED' });
  attempts.stop();
  assert.deepEqual(counted, ['own_events_lost']);
});
