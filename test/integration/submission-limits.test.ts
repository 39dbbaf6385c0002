import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import type { Queue } from '../../node/relay/intake.ts';
import type { Accepted } from '../../node/spool/message.ts';
import { until } from '../until.ts';
import { authPlain, Dialogue } from './smtp-dialogue.ts';
import { openWorld, orchard, reef, type World, type WorldOptions } from './submission-world.ts';

const plain = 'From: a@reef.test\r\n\r\nbody\r\n';
const queued = /^250 2\.0\.0 queued as /;

/** A world of its own for one test, closed however it ends. */
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

async function loggedIn(world: World): Promise<Dialogue> {
  return Dialogue.ready(world.implicit, { user: reef, pass: world.reefKey });
}

async function offer(dialogue: Dialogue, message: string, to = 'b@dest.test'): Promise<string> {
  await dialogue.say('MAIL FROM:<a@reef.test>');
  await dialogue.say(`RCPT TO:<${to}>`);
  return dialogue.data(message);
}

inWorld(
  'a message over the limit is 552, at MAIL by its declared size and after DATA by its true one',
  { limits: { maxMessageBytes: 1000 } },
  async (world) => {
    const dialogue = await loggedIn(world);
    assert.match(await dialogue.say('MAIL FROM:<a@reef.test> SIZE=1001'), /^552 /);
    assert.match(await offer(dialogue, `${plain}${'x'.repeat(998)}\r\n`), /^552 5\.3\.4 /);
    assert.match(await offer(dialogue, plain), queued);
    assert.equal((await world.accepted()).length, 1);
    dialogue.close();
  },
);

inWorld(
  'octets beyond the memory of the node are 451, and the memory comes back',
  { memoryBytes: 5000 },
  async (world) => {
    const dialogue = await loggedIn(world);
    for (let round = 0; round < 3; round++) {
      assert.match(await offer(dialogue, `${plain}${`${'x'.repeat(70)}\r\n`.repeat(100)}`), /^451 4\.4\.2 /);
      assert.match(await offer(dialogue, `${plain}${`${'x'.repeat(70)}\r\n`.repeat(40)}`), queued);
    }
    dialogue.close();
  },
);

inWorld(
  'the memory that one member takes leaves room for the others',
  { memoryPerMember: 5000 },
  async (world) => {
    const first = await loggedIn(world);
    const second = await loggedIn(world);
    const other = await Dialogue.ready(world.implicit, { user: orchard, pass: world.orchardKey });
    const lines = `${'x'.repeat(70)}\r\n`.repeat(50);
    await first.say('MAIL FROM:<a@reef.test>');
    await first.say('RCPT TO:<b@dest.test>');
    await first.say('DATA');
    first.write(`${plain}${lines}`);
    await until('the octets are held', () => !fits(world, 1400));
    assert.match(await offer(second, `${plain}${lines}`), /^451 4\.4\.2 /);
    await other.say('MAIL FROM:<a@orchard.test>');
    await other.say('RCPT TO:<b@dest.test>');
    assert.match(await other.data(`From: a@orchard.test\r\n\r\n${lines}`), queued);
    first.write('.\r\n');
    assert.match(await first.reply(), queued);
    assert.match(await offer(second, `${plain}${lines}`), queued);
    for (const dialogue of [first, second, other]) dialogue.close();
  },
);

/** Has Reef room for so many octets? */
function fits({ budget }: World, octets: number): boolean {
  const share = budget.of(reef);
  if (!share.take(octets)) return false;
  share.release(octets);
  return true;
}

inWorld('a line of more than 998 octets is 550 5.6.0 with its number', {}, async (world) => {
  const dialogue = await loggedIn(world);
  assert.match(await offer(dialogue, `${plain}${'x'.repeat(998)}\r\n`), queued);
  assert.match(await offer(dialogue, `${plain}${'x'.repeat(999)}\r\n`), /^550 5\.6\.0 .*Line 4 .*998/);
  const inHeader = `X-Long: ${'x'.repeat(991)}\r\n${plain}`;
  assert.match(await offer(dialogue, inHeader), /^550 5\.6\.0 .*Line 1 .*998/);
  // The dot that is doubled on its way does not count.
  assert.match(await offer(dialogue, `${plain}..${'x'.repeat(997)}\r\n`), queued);
  dialogue.close();
});

inWorld(
  'a recipient too many is 452, and the others are served',
  { limits: { maxRecipients: 2 } },
  async (world) => {
    const dialogue = await loggedIn(world);
    await dialogue.say('MAIL FROM:<a@reef.test>');
    for (const name of ['a', 'b']) assert.match(await dialogue.say(`RCPT TO:<${name}@dest.test>`), /^250/);
    assert.match(await dialogue.say('RCPT TO:<c@dest.test>'), /^452 4\.5\.3 /);
    assert.match(await dialogue.data(plain), queued);
    assert.equal((await world.accepted()).length, 2);
    dialogue.close();
  },
);

inWorld('a connection too many is 421', { limits: { maxConnections: 1 } }, async (world) => {
  const first = await loggedIn(world);
  const second = await Dialogue.open(world.implicit, true);
  await second.hungUp();
  assert.match(await first.say('NOOP'), /^250/);
  first.close();
});

inWorld(
  'who does not log in in time is hung up on, however busy',
  { limits: { loginMs: 1000 } },
  async (world) => {
    const dialogue = await Dialogue.ready(world.implicit);
    let reply: string;
    do reply = await dialogue.say('NOOP');
    while (reply.startsWith('250'));
    assert.match(reply, /^421 4\.4\.2 /);
    await dialogue.hungUp();
  },
);

inWorld(
  'a message that drips in is cut off, and nothing of it is kept',
  { limits: { transactionMs: 1500 } },
  async (world) => {
    const dialogue = await loggedIn(world);
    await dialogue.say('MAIL FROM:<a@reef.test>');
    await dialogue.say('RCPT TO:<b@dest.test>');
    await dialogue.say('DATA');
    const drip = setInterval(() => dialogue.write('x'), 10);
    try {
      assert.match(await dialogue.reply(), /^421 4\.4\.2 /);
    } finally {
      clearInterval(drip);
    }
    await dialogue.hungUp();
    assert.deepEqual(await world.accepted(), []);
  },
);

inWorld(
  'the cap is 451 with its figures, and counts recipients',
  {
    caps: {
      warmingDays: 14,
      warming: [{ untilDay: 14, perHour: 3, perDay: 50 }],
      tiers: { standard: { perHour: 9, perDay: 9 } },
    },
  },
  async (world) => {
    const dialogue = await loggedIn(world);
    for (let n = 0; n < 3; n++) assert.match(await offer(dialogue, plain), queued);
    assert.match(
      await offer(dialogue, plain),
      /^451 4\.7\.1 .*reef\.test is warming up: 3 recipients an hour/,
    );
    // The other domain of the member warms by itself.
    await dialogue.say('MAIL FROM:<a@reef.test>');
    await dialogue.say('RCPT TO:<b@dest.test>');
    assert.match(await dialogue.data('From: a@news.reef.test\r\n\r\nb\r\n'), queued);
    assert.equal((await world.accepted()).length, 4);
    dialogue.close();
  },
);

inWorld(
  'a suspended member gets 521 with the reason at AUTH; in an open session at MAIL',
  {},
  async (world) => {
    const open = await loggedIn(world);
    world.db.exec(
      `UPDATE member SET state = 'suspended', state_reason = 'abuse report 7' WHERE did = '${reef}'`,
    );
    assert.match(await open.say('MAIL FROM:<a@reef.test>'), /^521 5\.7\.1 .*abuse report 7/);
    open.close();
    const fresh = await Dialogue.ready(world.implicit);
    assert.match(
      await fresh.say(authPlain({ user: reef, pass: world.reefKey })),
      /^521 5\.7\.1 .*abuse report 7/,
    );
    // Who does not hold the key learns nothing of it.
    assert.match(await fresh.say(authPlain({ user: reef, pass: 'wrong' })), /^535 5\.7\.8 /);
    fresh.close();
  },
);

inWorld('a member enrolled for attestation alone does not send', {}, async (world) => {
  world.db.exec(`UPDATE member SET relay = 0 WHERE did = '${reef}'`);
  const dialogue = await Dialogue.ready(world.implicit);
  assert.match(await dialogue.say(authPlain({ user: reef, pass: world.reefKey })), /^521 5\.7\.1 /);
  dialogue.close();
});

const held = { ...Promise.withResolvers<Accepted>(), offered: Promise.withResolvers<void>() };
const slowQueue: Pick<Queue, 'accept'> = {
  accept: () => {
    held.offered.resolve();
    return held.promise;
  },
};
inWorld('nothing is answered before the spool has committed', { queue: () => slowQueue }, async (world) => {
  const dialogue = await loggedIn(world);
  let answered = false;
  const reply = offer(dialogue, plain).then((text) => {
    answered = true;
    return text;
  });
  await held.offered.promise;
  // Another session is served meanwhile, so an answer would have had its time.
  const other = await loggedIn(world);
  assert.match(await other.say('NOOP'), /^250/);
  other.close();
  assert.equal(answered, false);
  held.resolve({ kind: 'committed' });
  assert.match(await reply, queued);
  dialogue.close();
});

const failures: [name: string, options: WorldOptions, reply: RegExp][] = [
  [
    'a spool that cannot commit',
    { queue: () => ({ accept: async () => ({ kind: 'failed', reason: 'disk full' }) }) },
    /^452 4\.3\.1 (?!.*disk full)/,
  ],
  [
    'a spool that throws',
    { queue: () => ({ accept: () => Promise.reject(new Error('bug')) }) },
    /^451 4\.3\.0 (?!.*bug)/,
  ],
  [
    'a signature that cannot be made',
    { signer: () => ({ sign: async () => ({ kind: 'failed', reason: 'no key' }) }) },
    /^451 4\.3\.0 (?!.*no key)/,
  ],
];
for (const [name, options, reply] of failures) {
  inWorld(`${name} is 4xx without the reason, and nothing is queued`, options, async (world) => {
    const dialogue = await loggedIn(world);
    assert.match(await offer(dialogue, plain), reply);
    assert.match(await dialogue.say('NOOP'), /^250/);
    assert.deepEqual(await world.accepted(), []);
    dialogue.close();
  });
}

inWorld('without its Ed25519 key a domain sends nothing', {}, async (world) => {
  world.db.exec("UPDATE dkim_key SET retired_at = 1 WHERE algorithm = 'ed25519' AND domain = 'reef.test'");
  const dialogue = await loggedIn(world);
  assert.match(await offer(dialogue, plain), /^451 4\.3\.0 /);
  assert.deepEqual(await world.accepted(), []);
  dialogue.close();
});

const commit = Promise.withResolvers<void>();
const offered = Promise.withResolvers<void>();
const waitingQueue: WorldOptions['queue'] = (spool) => ({
  accept: async (message) => {
    offered.resolve();
    await commit.promise;
    return spool.accept(message);
  },
});
inWorld(
  'stop() hangs up on idle sessions and lets a commit under way be answered',
  { queue: waitingQueue },
  async (world) => {
    const idle = await loggedIn(world);
    const busy = await loggedIn(world);
    const reply = offer(busy, plain);
    await offered.promise;
    const stopped = Promise.all(world.servers.map((server) => server.stop()));
    assert.match(await idle.reply(), /^421 4\.3\.2 /);
    commit.resolve();
    assert.match(await reply, queued);
    busy.close();
    idle.close();
    await stopped;
    assert.equal((await world.accepted()).length, 1);
  },
);

inWorld('clients that leave in the middle of a TLS handshake while we stop do no harm', {}, async (world) => {
  const sockets = Array.from({ length: 20 }, () => connect(world.implicit.port, '127.0.0.1'));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  const stopped = Promise.all(world.servers.map((server) => server.stop()));
  for (const socket of sockets) socket.destroy();
  await stopped;
});

inWorld('a key that is revoked in the middle of a transaction sends nothing', {}, async (world) => {
  const { id, key } = await world.members.issueApiKey(reef, 'short-lived');
  const dialogue = await Dialogue.ready(world.implicit, { user: reef, pass: key });
  await dialogue.say('MAIL FROM:<a@reef.test>');
  await dialogue.say('RCPT TO:<b@dest.test>');
  world.members.revokeApiKey(reef, id);
  assert.match(await dialogue.data(plain), /^535 5\.7\.8 /);
  assert.deepEqual(await world.accepted(), []);
  dialogue.close();
});

const isSigning = Promise.withResolvers<void>();
const watchedSigner: WorldOptions['signer'] = (signer) => ({
  sign: (o) => {
    isSigning.resolve();
    return signer.sign(o);
  },
});
inWorld(
  'while 10 MB to 30 recipients are signed and stored, other sessions are served',
  { signer: watchedSigner },
  async (world) => {
    const [other, busy] = [await loggedIn(world), await loggedIn(world)];
    await busy.say('MAIL FROM:<a@reef.test>');
    for (let n = 0; n < 30; n++) await busy.say(`RCPT TO:<b${n}@dest.test>`);
    let isTaken = false;
    const taken = busy.data(`${plain}${`${'x'.repeat(76)}\r\n`.repeat(134_000)}`).then((reply) => {
      isTaken = true;
      return reply;
    });
    await isSigning.promise;
    let served = 0;
    for (; !isTaken; served++) assert.match(await other.say('NOOP'), /^250/);
    assert.match(await taken, queued);
    assert.ok(served > 5, `only ${served} commands of others were answered meanwhile`);
    assert.equal((await world.accepted()).length, 30);
    for (const dialogue of [other, busy]) dialogue.close();
  },
);
