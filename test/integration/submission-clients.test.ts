/** Clients that are too many, too slow, guessing, or behind a load balancer; and what TLS they get. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { generate } from 'selfsigned';
import type { FailedLogin } from '../../node/members/authenticate.ts';
import { authPlain, Dialogue } from './smtp-dialogue.ts';
import { openWorld, orchard, poolDomain, reef, type World, type WorldOptions } from './submission-world.ts';

const plain = 'From: a@reef.test\r\n\r\nbody\r\n';
const queued = /^250 2\.0\.0 queued as /;

function inWorld(name: string, options: WorldOptions, body: (world: World) => Promise<void>): void {
  test(name, async () => {
    const world = await openWorld(options);
    try {
      await body(world);
    } finally {
      await world.close();
    }
  });
}

const loggedIn = (world: World): Promise<Dialogue> =>
  Dialogue.ready(world.implicit, { user: reef, pass: world.reefKey });

inWorld('the greeting comes at once, not after a pause for clients that talk too soon', {}, async (world) => {
  let isFirst = false;
  // The pause would be 100 ms, begun after this timer; a machine that stalls gets more than one try.
  for (let tries = 10; tries > 0 && !isFirst; tries--) {
    const timer = new Promise<'timer'>((resolve) => setTimeout(() => resolve('timer'), 95));
    const dialogue = Dialogue.open(world.starttls);
    isFirst = (await Promise.race([timer, dialogue])) !== 'timer';
    (await dialogue).close();
  }
  assert.ok(isFirst);
});

inWorld(
  'connections of one client are counted over both ports, also unfinished handshakes',
  { connections: { perAddress: 3 } },
  async (world) => {
    const handshaking = connect(world.implicit.port, '127.0.0.1');
    await once(handshaking, 'connect');
    const open = [await Dialogue.open(world.starttls), await Dialogue.open(world.implicit, true)];
    const told = await Dialogue.greeting(world.starttls);
    assert.match(told.greeting, /^421 4\.7\.0 Too many connections/);
    await told.dialogue.hungUp();
    handshaking.destroy();
    open[0]!.close();
    // The server hears of it when it hears of it: whoever asks again gets in.
    let again = await Dialogue.greeting(world.starttls);
    while (!again.greeting.startsWith('220')) again = await Dialogue.greeting(world.starttls);
    again.dialogue.close();
    open[1]!.close();
  },
);

inWorld(
  'who opens twice as many as it may is not even answered',
  { connections: { perAddress: 1 } },
  async (world) => {
    const first = await Dialogue.open(world.starttls);
    // Told that it is one too many, and stays.
    const second = connect(world.starttls.port, '127.0.0.1');
    second.pause();
    await once(second, 'connect');
    const third = connect(world.starttls.port, '127.0.0.1');
    third.on('error', () => undefined).resume();
    await once(third, 'close');
    assert.equal(third.bytesRead, 0);
    assert.ok(world.counted.includes('submission_connections_dropped flood'));
    second.destroy();
    first.close();
  },
);

inWorld(
  'sessions of one member are counted wherever they come from',
  { connections: { perMember: 2 } },
  async (world) => {
    const login = authPlain({ user: reef, pass: world.reefKey });
    const open = [await loggedIn(world), await loggedIn(world)];
    const third = await Dialogue.ready(world.implicit);
    assert.match(await third.say(login), /^421 4\.7\.0 Too many connections/);
    await third.hungUp();
    const other = await Dialogue.ready(world.implicit, { user: orchard, pass: world.orchardKey });
    assert.match(await other.say('MAIL FROM:<a@orchard.test>'), /^250/);
    assert.match(await open[0]!.say('QUIT'), /^221/);
    await open[0]!.hungUp();
    const again = await Dialogue.ready(world.implicit);
    let reply = await again.say(login);
    for (; !reply.startsWith('235'); reply = await (await Dialogue.ready(world.implicit)).say(login));
    for (const dialogue of [open[1]!, other, again]) dialogue.close();
  },
);

inWorld(
  'a message that comes slower than the minimum rate is cut off, one that is fast enough is not',
  { limits: { minBytesPerSecond: 20_000, rateWindowMs: 300 } },
  async (world) => {
    const [slow, fast] = [await loggedIn(world), await loggedIn(world)];
    for (const dialogue of [slow, fast]) {
      await dialogue.say('MAIL FROM:<a@reef.test>');
      await dialogue.say('RCPT TO:<b@dest.test>');
      await dialogue.say('DATA');
      dialogue.write(plain);
    }
    const drip = setInterval(() => {
      slow.write('x');
      fast.write(`${'x'.repeat(70)}\r\n`.repeat(100));
    }, 10);
    try {
      assert.match(await slow.reply(), /^421 4\.4\.2 /);
    } finally {
      clearInterval(drip);
    }
    await slow.hungUp();
    fast.write('\r\n.\r\n');
    assert.match(await fast.reply(), queued);
    fast.close();
    assert.equal((await world.accepted()).length, 1);
  },
);

inWorld('a TLS handshake that does not end is ended', { limits: { loginMs: 200 } }, async (world) => {
  const silent = connect(world.implicit.port, '127.0.0.1');
  silent.on('error', () => undefined).resume();
  await once(silent, 'close');
  const upgrading = await Dialogue.open(world.starttls);
  await upgrading.say('EHLO x');
  assert.match(await upgrading.say('STARTTLS'), /^220/);
  await upgrading.hungUp();
});

const failures: FailedLogin[] = [];
const waits: number[] = [];
inWorld(
  'guessing is answered ever later, reported, and in the end refused; who is known as right still gets in',
  {
    limits: { maxAuthFailures: 100 },
    auth: {
      throttle: { blockAfter: 6, delayMs: 100, maxDelayMs: 400 },
      wait: async (ms) => void waits.push(ms),
      authFailed: (failed) => failures.push(failed),
    },
  },
  async (world) => {
    (await loggedIn(world)).close();
    const dialogue = await Dialogue.ready(world.implicit);
    const wrong = authPlain({ user: reef, pass: `${world.reefKey.slice(0, -4)}aaaa` });
    for (let n = 0; n < 6; n++) assert.match(await dialogue.say(wrong), /^535 5\.7\.8 /);
    assert.deepEqual(waits, [100, 200, 400, 400]);
    assert.deepEqual(failures[0], { address: '127.0.0.1', user: reef, did: reef });
    assert.match(await dialogue.say(wrong), /^454 4\.7\.0 Too many wrong logins/);
    await dialogue.hungUp();
    const right = await Dialogue.ready(world.implicit);
    assert.match(await right.say(authPlain({ user: reef, pass: world.reefKey })), /^235 /);
    right.close();
  },
);

const v1 = 'PROXY TCP4 192.0.2.9 198.51.100.7 4000 25\r\n';
const v2 = Buffer.from(`0d0a0d0a000d0a515549540a2111000c${'c0000209'}${'c6336407'}0fa00019`, 'hex');
const proxied: FailedLogin[] = [];
inWorld(
  'behind a load balancer the client that it names counts, on both ports, by both versions',
  {
    proxies: ['127.0.0.1'],
    connections: { perAddress: 2 },
    auth: { authFailed: (failed) => proxied.push(failed) },
  },
  async (world) => {
    const open: Dialogue[] = [];
    for (const [port, tls, header] of [
      [world.starttls, false, v1],
      [world.implicit, true, v2],
    ] as const) {
      const dialogue = await Dialogue.proxied(port, header, tls);
      await dialogue.say('EHLO x');
      if (!tls) {
        await dialogue.startTls();
        await dialogue.say('EHLO x');
      }
      assert.match(await dialogue.say(authPlain({ user: reef, pass: 'wrong' })), /^535/);
      open.push(dialogue);
    }
    assert.deepEqual(
      proxied.map(({ address }) => address),
      ['192.0.2.9', '192.0.2.9'],
    );
    // That client has its two; another one is welcome through the same proxy.
    const third = connect(world.starttls.port, '127.0.0.1');
    third.write(v1);
    const [octets] = await once(third, 'data');
    assert.match(String(octets), /^421 4\.7\.0 /);
    const other = await Dialogue.proxied(world.starttls, v1.replace('192.0.2.9', '192.0.2.10'));
    assert.match(await other.say('NOOP'), /^250/);
    for (const dialogue of [...open, other]) dialogue.close();
    third.destroy();
  },
);

inWorld(
  'a load balancer that says nothing of the sort is hung up on',
  { proxies: ['127.0.0.1'] },
  async (world) => {
    for (const octets of ['EHLO x\r\n', 'PROXY TCP4 x y 1 2\r\n', `PROXY UNKNOWN ${'x'.repeat(2000)}`]) {
      const socket = connect(world.starttls.port, '127.0.0.1');
      socket.on('error', () => undefined).resume();
      socket.write(octets);
      await once(socket, 'close');
      assert.equal(socket.bytesRead, 0);
    }
    assert.equal(world.counted.filter((what) => what.includes('proxy header')).length, 3);
  },
);

inWorld('nobody else is believed', { proxies: ['192.0.2.200'] }, async (world) => {
  const dialogue = await Dialogue.open(world.starttls);
  assert.match(await dialogue.say(v1.trim()), /^500 5\.5\.2 /);
  dialogue.close();
});

inWorld('a new certificate is for new sessions; those that are open go on with theirs', {}, async (world) => {
  const before = await loggedIn(world);
  const upgraded = await Dialogue.open(world.starttls);
  const made = await generate([{ name: 'commonName', value: 'renewed.test' }], { algorithm: 'sha256' });
  const renewed = { key: made.private, cert: made.cert };
  for (const server of world.servers) {
    assert.throws(() => server.updateCertificate({ key: renewed.key, cert: world.certificate.cert }));
    server.updateCertificate(renewed);
  }
  const after = await loggedIn(world);
  await upgraded.say('EHLO x');
  await upgraded.startTls();
  assert.ok(!before.certificate.equals(after.certificate));
  assert.ok(upgraded.certificate.equals(after.certificate));
  assert.match(await before.say('MAIL FROM:<a@reef.test>'), /^250/);
  for (const dialogue of [before, after, upgraded]) dialogue.close();
});

inWorld('a certificate that does not fit is refused, and the old one stays', {}, async (world) => {
  const made = await generate([{ name: 'commonName', value: poolDomain }], { algorithm: 'sha256' });
  for (const server of world.servers)
    assert.throws(() => server.updateCertificate({ key: made.private, cert: world.certificate.cert }));
  (await loggedIn(world)).close();
});

inWorld('TLS is 1.2 at least', {}, async (world) => {
  const ask = (version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3') =>
    new Promise<string>((resolve) => {
      const socket = connectTls({
        ...{ ...world.implicit, rejectUnauthorized: false, ciphers: 'ALL:@SECLEVEL=0' },
        ...{ minVersion: version, maxVersion: version },
      });
      socket
        .on('error', () => resolve('refused'))
        .once('secureConnect', () => resolve(socket.getProtocol()!));
      socket.once('close', () => resolve('refused'));
    });
  assert.deepEqual(await Promise.all((['TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const).map(ask)), [
    'refused',
    'TLSv1.2',
    'TLSv1.3',
  ]);
});

inWorld('recipients are refused one by one, and the rest is delivered', {}, async (world) => {
  world.suppressions.add({ did: reef, address: 'gone@dest.test', reason: 'bounce', evidence: 'x' });
  const dialogue = await loggedIn(world);
  await dialogue.say('MAIL FROM:<a@reef.test>');
  const refused: string[] = [];
  const addresses = Array.from({ length: 30 }, (_, n) => `b${n}@dest.test`);
  for (const [n, address] of addresses.entries()) {
    assert.match(await dialogue.say(`RCPT TO:<${address}>`), /^250/);
    if (n % 10 === 0) {
      for (const bad of ['gone@dest.test', 'a b@dest.test', 'x@[192.0.2.1]', 'jané@dest.test'])
        refused.push((await dialogue.say(`RCPT TO:<${bad}>`)).slice(0, 9));
    }
  }
  assert.deepEqual(new Set(refused), new Set(['550 5.7.1', '553 5.1.3']));
  assert.match(await dialogue.data(plain), queued);
  assert.deepEqual((await world.accepted()).map(({ address }) => address).sort(), addresses.sort());
  dialogue.close();
});
