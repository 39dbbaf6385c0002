/** Port 25 without inbound mail, spoken to over a socket. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { pino } from 'pino';
import { generate } from 'selfsigned';
import { RefuseAllListener } from '../../node/inbound/refuse-all.ts';

const counts: string[] = [];
const listener = new RefuseAllListener({
  listen: { host: '127.0.0.1', port: 0 },
  hostname: 'mx.harbor.test',
  log: pino({ level: 'silent' }),
  count: (what) => counts.push(what),
});
const { port } = await listener.start();
after(() => listener.stop());

/** Sends one line after the other, each after the last line of the reply before; gives those lines. */
async function talk(...lines: string[]): Promise<string[]> {
  const socket: Socket = connect(port, '127.0.0.1');
  const replies: string[] = [];
  const pending = [...lines];
  for await (const line of createInterface({ input: socket })) {
    if (/^\d{3}-/.test(line)) continue;
    replies.push(line);
    const next = pending.shift();
    if (next === undefined) break;
    socket.write(`${next}\r\n`);
  }
  socket.destroy();
  return replies;
}

test('each recipient is refused with 550 5.1.1, and no message is taken', async () => {
  const replies = await talk(
    'EHLO sender.test',
    'MAIL FROM:<a@sender.test> SIZE=5000',
    'RCPT TO:<one@reef.test>',
    'RCPT TO:<postmaster@harbor.test>',
    'DATA',
    'QUIT',
  );
  assert.match(replies[0]!, /^220 mx\.harbor\.test/);
  assert.match(replies[2]!, /^250/);
  assert.match(replies[3]!, /^550 5\.1\.1 [^5]/);
  assert.match(replies[4]!, /^550 5\.1\.1 [^5]/);
  assert.match(replies[5]!, /^503/);
  assert.deepEqual(counts, ['inbound_refused', 'inbound_refused']);
});

test('nobody logs in here', async () => {
  const replies = await talk('EHLO sender.test', 'AUTH PLAIN AGEAYg==', 'QUIT');
  assert.match(replies[2]!, /^5\d\d/);
});

test('a taken port is an error of start()', async () => {
  const second = new RefuseAllListener({
    listen: { host: '127.0.0.1', port },
    hostname: 'mx.harbor.test',
    log: pino({ level: 'silent' }),
    count: () => undefined,
  });
  await assert.rejects(second.start(), { code: 'EADDRINUSE' });
});

test('a renewed certificate is shown from then on, without a restart', async () => {
  const made = await Promise.all(
    ['one.test', 'two.test'].map((name) => generate([{ name: 'commonName', value: name }])),
  );
  const [first, second] = made.map((one) => ({ key: one.private, cert: one.cert }));
  const listening = new RefuseAllListener({
    ...{ listen: { host: '127.0.0.1', port: 0 }, hostname: 'mx.harbor.test', tls: first! },
    ...{ log: pino({ level: 'silent' }), count: () => undefined },
  });
  const at = await listening.start();
  assert.equal(await certificateOf(at.port), 'one.test');
  listening.updateCertificate(second!);
  assert.equal(await certificateOf(at.port), 'two.test');
  await listening.stop();
});

/** The common name that STARTTLS shows. */
async function certificateOf(portOf: number): Promise<string> {
  const socket: Socket = connect(portOf, '127.0.0.1');
  const said = async (line: string, reply: RegExp) => {
    if (line) socket.write(`${line}\r\n`);
    let text = '';
    while (!reply.test(text)) text += String((await once(socket, 'data'))[0]);
  };
  await said('', /^220 /m);
  await said('EHLO sender.test', /^250 /m);
  await said('STARTTLS', /^220 /m);
  const secure = connectTls({ socket, rejectUnauthorized: false });
  await once(secure, 'secureConnect');
  const { subject } = secure.getPeerCertificate();
  secure.destroy();
  return String(subject.CN);
}
