import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Memberships, WrongWorld } from '../sandbox/memberships.ts';
import { portsAt } from '../sandbox/ports.ts';
import { worldOf, writeWorld } from '../sandbox/world.ts';
import { Zone } from '../sandbox/zone.ts';
import { inboxRecords, publish, selectorsIn, setsOf } from '../sandbox/zone-data.ts';

const newFolder = () => mkdtempSync(join(tmpdir(), 'sandbox-world-'));

test('world.json has the published shape and is for its owner alone', () => {
  const folder = newFolder();
  // A file with a wider mode from elsewhere does not lend it that mode.
  writeFileSync(join(folder, 'world.json'), '{}');
  chmodSync(join(folder, 'world.json'), 0o644);
  const member = {
    handle: 'reef.test',
    domains: ['reef.test', 'news.reef.test'],
    home: 'harbor' as const,
    did: 'did:plc:reef',
    password: 'p',
    apiKey: 'atmos_k',
  };
  const file = writeWorld(folder, worldOf(portsAt(0), [member]));
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const world = JSON.parse(readFileSync(file, 'utf8'));
  const at = (port: number) => ({ host: '127.0.0.1', port });
  assert.deepEqual(world.cooperatives[0], {
    name: 'harbor',
    did: 'did:web:localhost%3A8080',
    poolDomain: 'harbor.test',
    web: 'http://127.0.0.1:8080',
    labeler: 'http://localhost:8080',
    appview: 'http://127.0.0.1:8080',
    submission: at(2587),
    submissions: at(2465),
    inbound: at(2525),
    dns: { ...at(5300), apex: 'list.harbor.test' },
  });
  assert.deepEqual(
    { ...world, cooperatives: world.cooperatives.map(({ name }: { name: string }) => name) },
    {
      plc: 'http://localhost:2582',
      pds: 'http://localhost:2583',
      resolver: at(5310),
      inbox: { smtp: at(2529), web: 'http://127.0.0.1:8025' },
      cooperatives: ['harbor', 'meadow'],
      members: [
        {
          handle: 'reef.test',
          did: 'did:plc:reef',
          password: 'p',
          domain: 'reef.test',
          domains: ['reef.test', 'news.reef.test'],
          home: 'harbor',
          apiKey: 'atmos_k',
        },
      ],
    },
  );
});

test('a folder belongs to one port offset', () => {
  const folder = newFolder();
  new Memberships(folder, 100);
  new Memberships(folder, 100);
  assert.throws(
    () => new Memberships(folder, 0),
    (error) => error instanceof WrongWorld && /is the world of port offset 100, not 0/.test(error.message),
  );
});

test('passwords are on disk before an account is made, and stay', () => {
  const folder = newFolder();
  new Memberships(folder, 0);
  const first = readFileSync(join(folder, 'members.json'), 'utf8');
  new Memberships(folder, 0);
  assert.equal(readFileSync(join(folder, 'members.json'), 'utf8'), first);
  const { members } = JSON.parse(first);
  assert.match(members['reef.test'].password, /^[0-9a-f]{24}$/);
  assert.notEqual(members['reef.test'].password, members['orchard.test'].password);
});

test('what a member was told to publish is found: sets, mail host, selectors', () => {
  const zone = new Zone();
  publish(zone, inboxRecords);
  publish(
    zone,
    setsOf([
      { type: 'MX', name: 'reef.test', value: '10 mail.harbor.test' },
      { type: 'TXT', name: 'reef.test', value: 'v=spf1 -all' },
      { type: 'TXT', name: 'reef.test', value: 'another' },
      { type: 'TXT', name: 'atmosr._domainkey.reef.test', value: 'v=DKIM1; p=' },
      { type: 'TXT', name: 'atmosr._domainkey.news.reef.test', value: 'v=DKIM1; p=' },
    ]),
  );
  assert.deepEqual(zone.lookup('reef.test', 'TXT').sets[0]?.values, ['v=spf1 -all', 'another']);
  assert.deepEqual(zone.lookup('mail.harbor.test', 'A').sets[0]?.values, ['127.0.0.1']);
  assert.deepEqual(selectorsIn(zone, 'reef.test'), ['atmosr']);
});
