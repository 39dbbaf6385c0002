import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { z } from 'zod';
import { defaultAccess } from '../../dnsbl/access/settings.ts';
import { ConfigError, checkConfig, readConfig } from '../../node/config.ts';
import { schema } from '../../node/config-schema.ts';
import { hints } from '../../node/config-values.ts';
import { aloneZoneSchema } from '../../node/dns/schema.ts';

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

/** The same with more of its section `dns`, from line 5, column 107 on. */
function withDns(more: string): string {
  return withMore('').replace('"hostmaster": "h@harbor.test"', `"hostmaster": "h@harbor.test", ${more}`);
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

test('the list has its defaults, one address or several, and absolute paths', () => {
  const small = checkConfig(withMore(''), file);
  assert.deepEqual(small.listen.dns, [{ host: '0.0.0.0', port: 53 }]);
  const { limit, access, quota, cookies, queryLog } = small.dns!;
  const { rules, ...defaults } = defaultAccess;
  assert.deepEqual({ limit, quota, rules: access }, { limit: defaults.limit, quota: defaults.quota, rules });
  assert.deepEqual([cookies.enabled, queryLog.every], [true, 0]);
  const more = '"cookies": { "secrets": "c" }, "transfer": { "keys": "k" }, "export": { "dir": "z" }';
  const dns = checkConfig(withDns(more), file).dns!;
  assert.deepEqual(
    [dns.cookies.secrets, dns.transfer!.keys, dns.export!.dir],
    ['/etc/atmos/c', '/etc/atmos/k', '/etc/atmos/z'],
  );
  const several = checkConfig(withMore('"listen": { "dns": ["192.0.2.1:53", "[2001:db8::1]:53"] }'), file);
  assert.deepEqual(several.listen.dns, [
    { host: '192.0.2.1', port: 53 },
    { host: '2001:db8::1', port: 53 },
  ]);
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
    'DNS on a name among addresses',
    withMore('"listen": { "dns": ["192.0.2.1:53", "localhost:53"] }'),
    '7:39',
    /"listen\.dns": localhost is a name/,
  ],
  [
    'DNS on no address',
    withMore('"listen": { "dns": ["192.0.2.1"] }'),
    '7:23',
    /"192\.0\.2\.1" is not ADDRESS:PORT.*one address, or a list.*\[2001:db8::1\]:53/,
  ],
  [
    'DNS twice on one address',
    withMore('"listen": { "dns": ["192.0.2.1:53", "192.0.2.1:53"] }'),
    '7:39',
    /"listen\.dns": 192\.0\.2\.1:53 is also "listen\.dns"/,
  ],
  [
    'a limit beyond range',
    withDns('"limit": { "perName": 0 }'),
    '5:129',
    /"dns\.limit\.perName": 0 too small.*answers a second to one client about one name, for example 50/,
  ],
  [
    'buckets that are no power of two',
    withDns('"limit": { "buckets": 5000 }'),
    '5:129',
    /5000 is no power of two/,
  ],
  [
    'a prefix in two lists',
    withDns('"access": { "refuse": ["192.0.2.1"], "drop": ["192.0.2.1/32"] }'),
    '5:117',
    /access: 192\.0\.2\.1\/32 stands there twice/,
  ],
  [
    'native sockets without threads',
    withDns('"workers": 0, "sockets": "native"'),
    '5:132',
    /need threads of their own\. Set "workers"/,
  ],
  [
    'a secondary by its name',
    withDns('"transfer": { "notify": [{ "host": "ns2.harbor.test" }] }'),
    '5:142',
    /is not an IP address\. It is the address of a secondary/,
  ],
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

/** A key's own hint, or one of what it stands in. */
function keysWithoutHint(type: z.core.$ZodType, path: string[] = [], isHinted = false): string[] {
  const hinted = isHinted || hints.get(type as z.ZodType) !== undefined;
  const { innerType, element, valueType, shape } = (type as unknown as { _zod: { def: Inner } })._zod.def;
  if (shape)
    return Object.entries(shape).flatMap(([key, inner]) => keysWithoutHint(inner, [...path, key], hinted));
  const inner = innerType ?? element ?? valueType;
  if (inner) return keysWithoutHint(inner, path, hinted);
  return hinted ? [] : [path.join('.')];
}

type Inner = Partial<Record<'innerType' | 'element' | 'valueType', z.core.$ZodType>> & {
  shape?: Record<string, z.core.$ZodType>;
};

test('every key says what would be right', () => {
  assert.deepEqual([...keysWithoutHint(schema), ...keysWithoutHint(aloneZoneSchema)], []);
  assert.deepEqual(keysWithoutHint(z.strictObject({ a: z.int().optional() })), ['a']);
});
