/** `atmos dns` as an operator runs it: a process, its signals, its files, asked over real sockets. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { encode } from 'dns-packet';
import { addressOf, askDns, textOf } from '../ask-dns.ts';
import { AtmosProcess, atmos, atmosIn, killAll } from '../atmos-process.ts';
import { needs } from '../peers.ts';
import { AppView } from '../unit/dnsbl-appview.ts';
import { until } from '../until.ts';

const apex = 'list.harbor.test';
const folder = mkdtempSync(join(tmpdir(), 'dns-alone-'));
after(() => {
  killAll();
  rmSync(folder, { recursive: true });
});

const ask = (...words: string[]) => atmos('dns', ...words);

function put(name: string, ...lines: string[]): string {
  const path = join(folder, name);
  writeFileSync(`${path}.new`, `${lines.join('\n')}\n`);
  renameSync(`${path}.new`, path);
  return path;
}

const common = ['--listen', '127.0.0.1:0', '--apex', apex, '--ns', 'ns1.harbor.test'];

test('the files of an rbldnsd are answered; SIGHUP, a change and commands are obeyed', async () => {
  const dom = put(
    'dom.dnset',
    ':2:Listed, see http://list.test/$',
    'reef.test',
    'not_a_host',
    '.wide.test :4:',
  );
  const ip = put('ip.txt', '192.0.2.7 :5:relay $');
  const ip6 = put('ip.ip6trie', '2001:db8::7');
  const state = join(folder, 'state');
  const out = join(folder, 'out');
  const alone = new AtmosProcess([
    'dns',
    ...[...common, '--workers', '2', '--state', state, '--export', out, '--poll', '0'],
    ...['--zone', `dom=${dom}`, '--zone', `ip=${ip}`, '--zone', `ip=${ip6}`],
  ]);
  const server = await alone.ready();
  const loaded = await alone.logged('files loaded');
  assert.deepEqual([loaded.entries, loaded.notTaken], [4, 1]);
  assert.equal(typeof loaded.ageSeconds, 'number');
  assert.deepEqual((await alone.logged('line not taken')).line, 3);
  const listens = await alone.logged('DNS listens');
  assert.match(String(listens.sockets), /^(native|dgram)$/);

  assert.equal(await textOf(server, `reef.test.dom.${apex}`), 'Listed, see http://list.test/reef.test');
  assert.equal(await addressOf(server, `a.wide.test.dom.${apex}`), '127.0.0.4');
  assert.equal(await textOf(server, `7.2.0.192.ip.${apex}`), 'relay 192.0.2.7');
  assert.equal(await addressOf(server, `2.0.0.127.ip.${apex}`), '127.0.0.2');
  assert.equal(await addressOf(server, `1.0.0.127.ip.${apex}`), 'NXDOMAIN');

  put('ip.txt', '192.0.2.8');
  let seen = alone.lines.length;
  alone.child.kill('SIGHUP');
  await alone.logged('files loaded', seen);
  assert.equal(await addressOf(server, `7.2.0.192.ip.${apex}`), 'NXDOMAIN');
  assert.equal(await addressOf(server, `8.2.0.192.ip.${apex}`), '127.0.0.2');

  assert.match(
    ask('status', '--state', state).out,
    new RegExp(`^${apex}: 4 entries, serial \\d+, \\d+ s old`),
  );
  rmSync(ip6);
  seen = alone.lines.length;
  const refused = ask('reload', '--state', state);
  assert.deepEqual([refused.code, /could not be read, the old entries stay/.test(refused.err)], [2, true]);
  await alone.logged('not loaded', seen);
  assert.equal(await addressOf(server, `8.2.0.192.ip.${apex}`), '127.0.0.2');

  assert.match(ask('export', '--state', state).out, /^4 entries of serial \d+ in 8 files/);
  await alone.logged('exported');
  assert.match(readFileSync(join(out, `${apex}.ip.ip4set`), 'utf8'), /^192\.0\.2\.8 :127\.0\.0\.2:$/m);
  rmSync(out, { recursive: true });
  seen = alone.lines.length;
  alone.child.kill('SIGUSR2');
  await alone.logged('exported', seen);
  assert.match(readFileSync(join(out, `${apex}.zone`), 'utf8'), /^reef\.test\.dom 300 IN A 127\.0\.0\.2$/m);
  assert.equal(await alone.end(), 0);
  assert.match(ask('status', '--state', state).err, /no node runs with this state folder/);
});

test('an apex is the same with a final dot, and an export says what it left out', async () => {
  // A text that a line cannot hold: from a file, the octet 0x01.
  const dom = put('odd.dnset', 'reef.test :2:a\u0001b', 'bay.test');
  const [state, out] = [join(folder, 'state-odd'), join(folder, 'out-odd')];
  const where = ['--listen', '127.0.0.1:0', '--apex', `${apex.toUpperCase()}.`, '--state', state];
  const alone = new AtmosProcess(['dns', ...where, '--export', out, '--zone', `dom=${dom}`]);
  assert.equal(await addressOf(await alone.ready(), `reef.test.dom.${apex}`), '127.0.0.2');
  assert.match(ask('export', '--state', state).out, /^2 entries of .*; 1 LEFT OUT, whose text cannot stand/);
  assert.equal(await alone.end(), 0);
});

test('dig sees what the files say, and the serial goes on behind the last run', {
  skip: needs('dig'),
}, async () => {
  const dom = put(
    'dig.dnset',
    '$SOA 300 ns1.harbor.test dns.harbor.test 4000000000 900 300 604800 60',
    'reef.test',
  );
  const state = join(folder, 'state-dig');
  const words = [...common, '--state', state, '--zone', `dom=${dom}`];
  const serials: number[] = [];
  for (let run = 0; run < 2; run++) {
    const alone = new AtmosProcess(['dns', ...words]);
    const { host, port } = await alone.ready();
    const dig = (...asked: string[]) =>
      spawnSync('dig', [`@${host}`, '-p', String(port), '+short', ...asked], {
        encoding: 'utf8',
      }).stdout.trim();
    assert.equal(dig(`reef.test.dom.${apex}`, 'A'), '127.0.0.2');
    assert.equal(dig('+tcp', apex, 'NS'), 'ns1.harbor.test.');
    serials.push(Number(dig(apex, 'SOA').split(' ')[2]));
    assert.equal(await alone.end(), 0);
  }
  assert.ok(serials[0]! > 4_000_000_000 && serials[1]! > serials[0]!, serials.join(' '));
});

test('reloads under queries lose none', async () => {
  const lines = (code: number) => Array.from({ length: 20_000 }, (_, n) => `n${n}.test :127.0.0.${code}:`);
  const dom = put('busy.dnset', ...lines(2));
  const alone = new AtmosProcess([
    'dns',
    ...common,
    '--workers',
    '2',
    '--poll',
    '0',
    '--limit',
    'off',
    '--zone',
    `dom=${dom}`,
  ]);
  const server = await alone.ready();
  const asker = await askSteadily(server, (n) => `n${n % 20_000}.test.dom.${apex}`);
  for (let reload = 0; reload < 4; reload++) {
    put('busy.dnset', ...lines(3 + reload));
    const seen = alone.lines.length;
    alone.child.kill('SIGHUP');
    await alone.logged('files loaded', seen);
  }
  const { asked, answered, negative } = await asker.end();
  assert.ok(asked > 200, String(asked));
  assert.deepEqual([answered, negative], [asked, 0]);
  assert.equal(await addressOf(server, `n7.test.dom.${apex}`), '127.0.0.6');
  assert.equal(await alone.end(), 0);
});

/** A window of questions kept full, until end(). */
async function askSteadily(server: { host: string; port: number }, nameOf: (n: number) => string) {
  const socket = createSocket('udp4');
  let asked = 0;
  let answered = 0;
  let negative = 0;
  let isEnding = false;
  const all = Promise.withResolvers<void>();
  const one = () => {
    const name = nameOf(asked);
    const id = asked & 0xffff;
    asked += 1;
    socket.send(encode({ type: 'query', id, questions: [{ type: 'A', name }] }), server.port, server.host);
  };
  socket.on('message', (message) => {
    answered += 1;
    if ((message[3]! & 15) !== 0 || message.readUInt16BE(6) !== 1) negative += 1;
    if (!isEnding) one();
    else if (answered === asked) all.resolve();
  });
  for (let window = 0; window < 16; window++) one();
  return {
    end: async () => {
      isEnding = true;
      const patience = setTimeout(() => all.resolve(), 2000);
      if (answered < asked) await all.promise;
      clearTimeout(patience);
      socket.close();
      return { asked, answered, negative };
    },
  };
}

test('an AppView is followed; killed and without it, the last state answers and says its age', async () => {
  const appview = new AppView();
  for (let n = 0; n < 300; n++) appview.list(`n${n}.test`);
  const from = await appview.start();
  after(() => appview.stop());
  const state = join(folder, 'state-feed');
  const words = [...common, '--workers', '2', '--state', state, '--from', from];
  const first = new AtmosProcess(['dns', ...words]);
  const server = await first.ready();
  assert.equal(await addressOf(server, `n299.test.dom.${apex}`), '127.0.3.1');
  appview.list('reef.test', { trust: 2 });
  await until('the change', async () => (await addressOf(server, `reef.test.dom.${apex}`)) === '127.0.3.2');
  assert.match(ask('status', '--state', state).out, /301 entries.*, \d+ s old\nfollows http.*, cursor 1301/s);
  assert.equal(await first.end(), 0);
  await appview.stop();

  const second = new AtmosProcess(['dns', ...words]);
  const again = await second.ready();
  assert.equal(await addressOf(again, `reef.test.dom.${apex}`), '127.0.3.2');
  assert.match(ask('status', '--state', state).out, /301 entries.* s old\nWAITS FOR http/s);
  appview.list('late.test');
  await appview.start();
  await second.logged('is current');
  assert.equal(await addressOf(again, `late.test.dom.${apex}`), '127.0.3.1');
  assert.equal(appview.cursors.at(-1), '1301');
  await second.end('SIGKILL');
  await appview.stop();

  writeFileSync(join(state, 'zones', `${apex}.feed`, 'feed.json'), '{"state":');
  const { code, err } = ask(...words);
  assert.equal(code, 2);
  assert.match(err, /feed\.json is damaged \(it is not what was written\)\. Remove its folder to begin anew/);
});

test('the shortest command keeps its last state in the folder where it is called', async () => {
  const appview = new AppView();
  appview.list('reef.test');
  const from = await appview.start();
  after(() => appview.stop());
  const words = ['dns', '--listen', '127.0.0.1:0', '--apex', apex, '--workers', '2', '--from', from];
  const first = new AtmosProcess(words, folder);
  await first.ready();
  assert.equal(await first.end(), 0);
  await appview.stop();
  const second = new AtmosProcess(words, folder);
  assert.equal(await addressOf(await second.ready(), `reef.test.dom.${apex}`), '127.0.3.1');
  assert.match(atmosIn(folder, 'dns', 'status').out, /1 entries, serial \d+, \d+ s old\nWAITS FOR http/);
  assert.equal(await second.end(), 0);
});

test('flags say who is answered', async () => {
  const dom = put('flags.dnset', 'reef.test');
  const words = [...common, '--allow', '192.0.2.0/24', '--zone', `dom=${dom}`];
  const alone = new AtmosProcess(['dns', ...words]);
  assert.equal(await addressOf(await alone.ready(), `reef.test.dom.${apex}`), 'REFUSED');
  assert.equal(await alone.end(), 0);
});

test('wrong words are refused with what would be right', () => {
  const cases: [words: string[], said: RegExp][] = [
    [['--apex', apex], /--listen is missing/],
    [['--listen', '127.0.0.1:0'], /--apex is missing/],
    [common, /give --zone, or --from/],
    [[...common, '--zone', 'dom'], /write it as dom=FILE/],
    [[...common, '--zone', 'block=x'], /write block=dnset:FILE/],
    [[...common, '--zone', 'dom=ip4set:x'], /dom is not made of ip4set/],
    [[...common, '--zone', 'dom=/nowhere/at/all'], /ENOENT/],
    [[...common, '--zone', 'dom=x', '--limit', 'some'], /--limit some: on, log or off/],
    [[...common, '--zone', 'dom=x', '--allow', '192.0.2.1/24'], /--allow 192\.0\.2\.1\/24: write it as/],
    [[...common, '--config', 'x.jsonc'], /--listen: with --config, everything stands in the file/],
    [['--config', '/nowhere.jsonc'], /there is no such file/],
    [[...common, '--from', 'http://a.test', '--state', join(folder, 's')], /not encrypted: use https/],
    [
      [...common, '--zone', 'dom=x', '--hostmaster', 'host_master@a.test'],
      /--hostmaster host_master@a\.test: write/,
    ],
    [[...common, '--zone', 'dom=x', '--workers', 'many'], /--workers many: a number from 0 to 64/],
    [['--listen', 'localhost:53', '--apex', apex, '--zone', 'dom=x'], /write ADDRESS:PORT/],
  ];
  for (const [words, wanted] of cases) {
    const { code, err } = ask(...words);
    assert.match(err, wanted, words.join(' '));
    assert.equal(code, 2);
  }
});

test('a port that is taken is said, and nothing is left running', async () => {
  const dom = put('taken.dnset', 'reef.test');
  const first = new AtmosProcess(['dns', ...common, '--zone', `dom=${dom}`]);
  const { port } = await first.ready();
  const taken = ['--listen', `127.0.0.1:${port}`, '--apex', apex, '--zone', `dom=${dom}`];
  const { code, err } = ask(...taken);
  assert.equal(code, 2);
  assert.match(err, /another program has it/);
  assert.equal((await askDns({ host: '127.0.0.1', port }, `reef.test.dom.${apex}`)).rcode, 'NOERROR');
  await first.end();
});
