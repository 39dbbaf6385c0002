/** What the sandbox reads from anyone on this machine: messages for display, and DNS questions. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { encode } from 'dns-packet';
import { UDPClient } from 'dns2';
import { textOf } from '../../node/web/html.ts';
import { DnsWorld } from '../sandbox/dns-world.ts';
import { messagePage } from '../sandbox/inbox-pages.ts';
import { readMessage } from '../sandbox/readable.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('sandbox-inputs');

const messages = [
  'From: a@reef.test\r\nSubject: =?utf-8?q?caf=C3=A9?= =?utf-8?b?w6k=?=\r\n\r\nHello\r\n',
  'Content-Type: text/plain; charset="utf-16"\r\nContent-Transfer-Encoding: base64\r\n\r\naABpAA==\r\n',
  [
    'Content-Type: multipart/mixed; boundary="a"',
    '',
    '--a',
    'Content-Type: multipart/alternative; boundary=b',
    '',
    '--b',
    'Content-Type: text/plain; charset=iso-8859-1',
    'Content-Transfer-Encoding: quoted-printable',
    '',
    '<b>=E9</b> =',
    '--b--',
    '--a--',
  ].join('\r\n'),
].map((text) => Buffer.from(text, 'latin1'));

const markup = /<(?!\/?(html|head|meta|title|link|body|p|a|h1|h2|table|thead|tbody|tr|th|td|pre)\b|!doctype)/;

test('every mutated message is shown, and none of it as markup', () => {
  const rounds = fuzz.rounds(3_000);
  for (let round = 0; round < rounds; round++) {
    const raw = fuzz.mutate(fuzz.pick(messages));
    const { fields } = readMessage(raw);
    const subject = fields.map(({ value }) => value).join(' ');
    const envelope = { id: 'm1', mailFrom: subject, to: [subject], from: subject, subject };
    const message = { ...envelope, receivedAt: 0, tls: true, raw, signatures: Promise.resolve([]) };
    const page = textOf(messagePage(message, []));
    assert.doesNotMatch(page, markup, JSON.stringify(raw.toString('latin1')));
  }
});

test('mutated questions over UDP and TCP leave the DNS world answering', async (t) => {
  const dns = await DnsWorld.start({ port: 0 });
  t.after(() => dns.stop());
  dns.set('reef.test', 'MX', ['10 mx.inbox.test']);
  const question = encode({ type: 'query', id: 1, questions: [{ name: 'reef.test', type: 'MX' }] });
  const client = createSocket('udp4').bind(0, '127.0.0.1');
  await once(client, 'listening');
  t.after(() => client.close());
  const isAnswering = async () => {
    const ask = UDPClient({ dns: dns.host, port: dns.port, timeout: 5_000 });
    return (await ask('reef.test', 'MX')).answers.length === 1;
  };
  // What is no question gets no answer over TCP, and its connection stays until the server tires of it.
  const open = new Set<Socket>();
  t.after(() => {
    for (const client of open) client.destroy();
  });
  const sendOverTcp = (octets: Buffer) => {
    const client = connect(dns.port, dns.host);
    open.add(client);
    client.on('error', () => client.destroy());
    client.once('close', () => open.delete(client));
    client.resume().end(octets);
  };
  const rounds = fuzz.rounds(1_000, 10);
  for (let round = 1; round <= rounds; round++) {
    client.send(fuzz.mutate(question), dns.port, dns.host);
    if (round % 20 === 0)
      sendOverTcp(fuzz.mutate(Buffer.concat([Buffer.from([0, question.length]), question])));
    if (round % 100 === 0) assert.ok(await isAnswering());
  }
  assert.ok(await isAnswering());
  assert.ok(dns.garbage > 0, 'the mutations reach what is garbage');
});
