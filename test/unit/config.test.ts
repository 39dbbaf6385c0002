import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ConfigError, checkConfig, readConfig } from '../../node/config.ts';

const file = '/etc/atmos/atmos.jsonc';

/** A whole configuration; `more` stands on line 7, column 3. */
function withMore(more: string): string {
  return `{
  "name": "Harbor", // a comment
  "domain": "harbor.test",
  "publicUrl": "https://harbor.test",
  "dns": { "apex": "list.harbor.test", "nameservers": ["ns1.harbor.test"], "hostmaster": "h@harbor.test" },

  ${more}
}`;
}

function faultOf(text: string): string {
  try {
    checkConfig(text, file);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message;
  }
  return assert.fail('the configuration was accepted');
}

test('a small file is completed with defaults, absolute paths and milliseconds', () => {
  const config = checkConfig(withMore('"labeler": { "reverifyInterval": "12h", },'), file);
  assert.equal(config.did, 'did:web:harbor.test');
  assert.equal(config.labelerUrl, 'https://harbor.test');
  assert.equal(config.stateDir, '/etc/atmos/state');
  assert.equal(config.labeler.reverifyInterval, 12 * 3_600_000);
  assert.deepEqual(config.listen.submission, { host: '0.0.0.0', port: 587 });
  assert.deepEqual(config.caps.warming[0], { untilDay: 7, perHour: 5, perDay: 50, burst: 10 });
  assert.equal(config.delivery.tls, 'required');
});

test('a port in a did:web is percent-encoded', () => {
  const config = checkConfig(withMore('').replace('https://harbor.test', 'http://localhost:8080'), file);
  assert.equal(config.did, 'did:web:localhost%3A8080');
});

const faults: [name: string, text: string, place: string, says: RegExp][] = [
  ['an unknown key', withMore('"lissten": {}'), '7:3', /unknown key "lissten"\. Did you mean "listen"\?/],
  ['an unknown key inside', withMore('"delivery": { "tlss": "required" }'), '7:17', /Did you mean "tls"/],
  ['a key far from any', withMore('"xyzzy": 1'), '7:3', /Known here: name, domain/],
  ['a wrong type', withMore('"stateDir": 5'), '7:15', /"stateDir": 5 .*for example "\.\/state"/],
  ['a port beyond range', withMore('"delivery": { "port": 99999 }'), '7:25', /99999 too big/],
  ['no host', withMore('"listen": { "web": "80" }'), '7:22', /"80" is not ADDRESS:PORT.*127\.0\.0\.1:8080/],
  ['a bad duration', withMore('"labeler": { "reverifyInterval": "1y" }'), '7:36', /is not a duration.*"24h"/],
  [
    'a bad stance',
    withMore('"peers": [{ "did": "did:web:a.test", "stance": "love" }]'),
    '7:50',
    /"guarantee"/,
  ],
  [
    'a peer that is ourselves',
    withMore('"peers": [{ "did": "did:web:harbor.test", "stance": "endorse" }]'),
    '7:22',
    /not its own peer/,
  ],
  [
    'a peer twice',
    withMore(
      '"peers": [{ "did": "did:web:a.test", "stance": "endorse" }, { "did": "did:web:a.test", "stance": "censure" }]',
    ),
    '7:72',
    /named twice/,
  ],
  [
    "the operator's pages for everybody",
    withMore('"listen": { "operator": "198.51.100.7:8090" }'),
    '7:27',
    /can be reached from outside.*127\.0\.0\.1/,
  ],
  [
    "the operator's pages on every address",
    withMore('"listen": { "operator": "0.0.0.0:8090" }'),
    '7:27',
    /can be reached from outside/,
  ],
  [
    'a signature that ends before it leaves',
    withMore('"signing": { "expire": "30m" }'),
    '7:26',
    /between 1h and 7d/,
  ],
  ['a key twice', withMore('"name": "Other"'), '7:3', /"name" stands twice/],
  [
    'no standard tier',
    withMore('"caps": { "tiers": { "gold": { "perHour": 1, "perDay": 2 } } }'),
    '7:22',
    /"standard" is missing/,
  ],
  [
    'a name server inside the zone',
    withMore('').replace('"ns1.harbor.test"', '"ns1.list.harbor.test"'),
    '5:56',
    /inside the zone.*ns1\.harbor\.test/,
  ],
  ['DNS on a name', withMore('"listen": { "dns": "localhost:53" }'), '7:22', /localhost is a name/],
  [
    'dns without its section',
    '{"name":"H","domain":"h.test","publicUrl":"https://h.test"}',
    '1:1',
    /needs the section "dns"/,
  ],
  ['a missing key', '{\n  "name": "H"\n}', '1:1', /"domain" is missing/],
  [
    'a public listener in loopback mode',
    withMore('"network": { "loopbackOnly": true }'),
    '1:1',
    /"listen\.inbound": 0\.0\.0\.0 is not on loopback/,
  ],
  ['a domain of one label', withMore('').replace('"harbor.test"', '"harbor"'), '3:13', /not a domain name/],
  [
    'an underscore in a domain',
    withMore('').replace('"harbor.test"', '"har_bor.test"'),
    '3:13',
    /not a domain/,
  ],
  [
    'an interval of nothing',
    withMore('"labeler": { "reverifyInterval": "0s" }'),
    '7:36',
    /is not a duration/,
  ],
  [
    'one port twice',
    withMore('"listen": { "submissions": "0.0.0.0:587" }'),
    '7:30',
    /is also "listen\.submission"/,
  ],
  [
    'a public firehose in loopback mode',
    withMore('"network": { "loopbackOnly": true }, "firehose": ["wss://relay.example"]'),
    '7:53',
    /relay\.example is not on loopback/,
  ],
  ['an open brace', '{ "name": "H"', '1:14', /A bracket is left open/],
  ['no comma', '{ "name": "H" "domain": "h.test" }', '1:15', /Put a comma/],
  ['an empty file', '', '1:1', /not valid JSON/],
  ['a list', '[]', '1:1', /no object/],
];

for (const [name, text, place, says] of faults) {
  test(`${name} is refused at its place, with what would be right`, () => {
    const message = faultOf(text);
    assert.match(message, says);
    assert.ok(message.includes(`${file}:${place}:`), message);
  });
}

test('all faults are named at once', () => {
  assert.equal(faultOf(withMore('"lissten": {}, "stateDir": 5')).split('\n').length, 2);
});

test('a missing file says how to make one', () => {
  const missing = join(mkdtempSync(join(tmpdir(), 'atmos-')), 'atmos.jsonc');
  assert.throws(
    () => readConfig(missing),
    (error: Error) =>
      error instanceof ConfigError &&
      error.message.includes(`${missing}:1:1: there is no such file`) &&
      error.message.includes('atmos init'),
  );
});

for (const host of [
  '127.0.0.1',
  'localhost',
  '[::1]',
  '10.1.2.3',
  '192.168.1.2',
  '100.100.1.1',
  '[fd00::1]',
]) {
  test(`the operator's pages may listen on ${host}`, () => {
    const { listen } = checkConfig(withMore(`"listen": { "operator": "${host}:8090" }`), file);
    assert.equal(listen.operator?.port, 8090);
  });
}
