import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ACCESS } from '../../dnsbl/access/access-counters.ts';
import { Clock } from '../../dnsbl/access/clock.ts';
import { CookieSecrets } from '../../dnsbl/access/cookie-secrets.ts';
import { ServerCookies } from '../../dnsbl/access/cookies.ts';
import { SipHash } from '../../dnsbl/access/siphash.ts';
import { clientAt } from './dnsbl-access-fixtures.ts';

function hex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

test('SipHash-2-4 gives the values of its authors', () => {
  const message = Uint8Array.from({ length: 66 }, (_, index) => index - 2);
  const sip = new SipHash(Uint8Array.from({ length: 16 }, (_, index) => index));
  const values: [octets: number, hex: string][] = [
    [0, '310e0edd47db6f72'],
    [1, 'fd67dc93c539f874'],
    [7, '37d1018bf50002ab'],
    [8, '6224939a79f5f593'],
    [15, 'e545be4961ca29a1'],
    [16, 'db9bc2577fcc2a3f'],
    [63, '724506eb4c328a95'],
  ];
  for (const [octets, expected] of values) {
    sip.read(message, 2, octets);
    const out = Buffer.alloc(8);
    out.writeInt32LE(sip.low, 0);
    out.writeInt32LE(sip.high, 4);
    assert.equal(out.toString('hex'), expected, `${octets} octets`);
  }
});

/** A server with secrets at a time in seconds. */
function server(secrets: string[], seconds: number) {
  let nowMs = seconds * 1000;
  const events: number[] = [];
  const clock = new Clock(() => nowMs);
  const cookies = new ServerCookies(secrets.map(hex), clock, { access: (event) => void events.push(event) });
  const at = 5;
  return {
    cookies,
    events,
    isValid: (client: string, option: string) =>
      cookies.isValid(
        clientAt(client),
        Buffer.concat([Buffer.alloc(at), hex(option)]),
        at,
        option.length / 2,
      ),
    answer: (client: string, option: string) => {
      const out = Buffer.alloc(64, 0xee);
      const octets = Buffer.concat([Buffer.alloc(at), hex(option)]);
      const length = cookies.answerFor(clientAt(client), octets, at, option.length / 2, out, 3);
      assert.equal(out[3 + length], 0xee, 'no octet more than told');
      return out.toString('hex', 3, 3 + length);
    },
    setTime: (to: number) => {
      nowMs = to * 1000;
      clock.tick();
    },
  };
}

const secret = 'e5e973e5a6b2a43f48e7dc849e37bfcf';
const asker = '198.51.100.100';
const issued = 1559731985;
const first = '2464c4abcf10c957010000005cf79f111f8130c3eee29480';

test('RFC 9018 A.1: a client learns a cookie', () => {
  assert.equal(server([secret], issued).answer(asker, '2464c4abcf10c957'), first);
});

test('RFC 9018 A.2: after 40 minutes it gets a new one for the old', () => {
  const later = server([secret], 1559734385);
  assert.equal(later.isValid(asker, first), true);
  assert.equal(later.answer(asker, first), '2464c4abcf10c957010000005cf7a871d4a564a1442aca77');
});

test('RFC 9018 A.3: reserved octets of another server are hashed, and not repeated', () => {
  const option = 'fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5';
  const there = server([secret], 0x5cf78f71);
  assert.equal(there.isValid('203.0.113.203', option), true);
  there.setTime(1559734700);
  assert.equal(there.answer('203.0.113.203', option), 'fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e');
});

test('RFC 9018 A.4: a cookie over IPv6 of the secret before is known, and made anew with the next', () => {
  const client = '2001:db8:220:1:59de:d0f4:8769:82b8';
  const rolled = server(['445536bcd2513298075a5d379663c962', 'dd3bdf9344b678b185a6f5cb60fca715'], 1559741961);
  const option = '22681ab97d52c298010000005cf7c57926556bd0934c72f8';
  assert.equal(rolled.isValid(client, option), true);
  assert.equal(rolled.answer(client, option), '22681ab97d52c298010000005cf7c609a6bb79d16625507a');
});

test('a cookie is good for an hour, five minutes before its time, and kept for half an hour', () => {
  const times: [secondsLater: number, isValid: boolean, isKept: boolean][] = [
    [-301, false, false],
    [-300, true, true],
    [0, true, true],
    [1799, true, true],
    [1800, true, false],
    [3600, true, false],
    [3601, false, false],
  ];
  for (const [later, isValid, isKept] of times) {
    const there = server([secret], issued + later);
    assert.equal(there.isValid(asker, first), isValid, `valid after ${later} s`);
    assert.equal(there.answer(asker, first) === first, isKept, `kept after ${later} s`);
  }
});

test('the time of a cookie goes round with its 32 bits', () => {
  const there = server([secret], 2 ** 32 - 100);
  const cookie = there.answer(asker, '2464c4abcf10c957');
  there.setTime(2 ** 32 + 200);
  assert.equal(there.isValid(asker, cookie), true);
  there.setTime(2 ** 32 + 3501);
  assert.equal(there.isValid(asker, cookie), false);
});

test('one bit changed, another address, secret, version or length: it is no cookie', () => {
  const there = server([secret], issued);
  assert.equal(there.isValid(asker, first), true);
  for (let bit = 0; bit < first.length * 4; bit++) {
    const changed = hex(first);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(there.isValid(asker, changed.toString('hex')), false, `bit ${bit}`);
  }
  assert.equal(there.isValid('198.51.100.101', first), false);
  assert.equal(there.isValid('2001:db8::1', first), false);
  assert.equal(there.isValid(asker, `${first}00`), false);
  assert.equal(there.isValid(asker, first.slice(0, 16)), false);
  assert.equal(server(['dd3bdf9344b678b185a6f5cb60fca715'], issued).isValid(asker, first), false);
  assert.equal(there.isValid(asker, first), true);
});

test('what was judged a moment ago is judged anew when the secrets or the time are others', () => {
  const there = server([secret], issued);
  assert.equal(there.isValid(asker, first), true);
  there.setTime(issued + 3601);
  assert.equal(there.isValid(asker, first), false);
  there.setTime(issued);
  assert.equal(there.isValid(asker, first), true);
  there.cookies.replace([hex('dd3bdf9344b678b185a6f5cb60fca715')], false);
  assert.equal(there.isValid(asker, first), false);
});

test('cookies are counted by what they were', () => {
  const { answer, events } = server([secret], issued);
  answer(asker, '2464c4abcf10c957');
  answer(asker, first);
  answer('198.51.100.101', first);
  assert.deepEqual(events, [ACCESS.cookieNew, ACCESS.cookieValid, ACCESS.cookieInvalid]);
});

test('secrets of chance are renewed once a day, and the one before stays known', () => {
  let nowMs = 0;
  const secrets = new CookieSecrets({ now: () => nowMs });
  const [one] = secrets.current;
  assert.equal(secrets.refresh(), false);
  nowMs = 24 * 3600 * 1000;
  assert.equal(secrets.refresh(), true);
  assert.equal(secrets.current.length, 2);
  assert.deepEqual(secrets.current[1], one);
  assert.notDeepEqual(secrets.current[0], one);
});

test('a file of secrets is read again when it changes, and a broken one keeps what was', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-cookies-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'secrets');
  let version = 0;
  const write = (text: string) => {
    writeFileSync(file, text);
    utimesSync(file, ++version, version);
  };
  assert.throws(() => new CookieSecrets({ file }), /ENOENT/);
  write(`# ours\n${secret}\n`);
  const secrets = new CookieSecrets({ file });
  assert.deepEqual(secrets.current, [hex(secret)]);
  assert.equal(secrets.refresh(), false);
  write(`dd3bdf9344b678b185a6f5cb60fca715\n${secret}\n`);
  assert.equal(secrets.refresh(), true);
  assert.deepEqual(secrets.current, [hex('dd3bdf9344b678b185a6f5cb60fca715'), hex(secret)]);
  for (const broken of ['', 'short\n', `${secret}\n`.repeat(5), 'x'.repeat(5000)]) {
    write(broken);
    assert.throws(() => secrets.refresh(), /cookie secrets/);
    assert.equal(secrets.current.length, 2);
  }
});
