/** Postfix, Exim and OpenSMTPD take what the running node delivers: encrypted, unchanged, and with their own refusals. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createTransport } from 'nodemailer';
import { generate } from 'selfsigned';
import { needs } from '../peers.ts';
import { openRelayWorld, type RelayWorld, reef, threeGood } from '../relay-world.ts';
import { until } from '../until.ts';
import { type Destination, mailServers } from './mail-servers.ts';

const made = await generate([{ name: 'commonName', value: 'mx.dest.test' }], { algorithm: 'sha256' });
const tls = { key: made.private, cert: made.cert };

for (const server of mailServers) {
  describe(`${server.name} as destination`, { skip: server.skip || needs('python3-dkim') }, () => {
    let destination: Destination;
    let world: Sending;
    before(async () => {
      destination = await server.start({ tls });
      const delivery = { port: destination.port, tlsExceptions: { 'dest.test': 'opportunistic' } };
      const opened = await openRelayWorld({
        other: destination.port,
        ...(!server.overTls && { config: { delivery } }),
      });
      world = { ...opened, transport: transportFor(opened) };
    });
    after(async () => {
      world?.transport.close();
      await world?.close();
      await destination?.stop();
    });

    test('a message arrives byte for byte, over TLS where there is any, and its signatures verify', async () => {
      const lines = ['.a dot first', '..two', 'Grüße', 'x'.repeat(900), 'tab\tand  blanks ', '', 'the end'];
      await send(world, 'b@dest.test', 'whole', lines.join('\r\n'));
      const stored = await until('it is stored', () =>
        destination.stored().find((one) => one.includes('Subject: whole')),
      ).catch((error: Error) => {
        throw new Error(destination.log(), { cause: error });
      });
      const message = asSent(stored);
      if (server.overTls) assert.match(stored.toString(), server.overTls);
      assert.equal(
        message
          .subarray(message.indexOf('\r\n\r\n') + 4)
          .toString()
          .trimEnd(),
        lines.join('\r\n'),
      );
      assert.deepEqual(await world.verify(message), threeGood(reef.domain));
    });

    test('a hundred messages at once arrive once each', async () => {
      await Promise.all(
        Array.from({ length: 100 }, (_, i) => send(world, 'b@dest.test', `number ${i}.`, 'x')),
      );
      const subjects = await until('all are stored', () => {
        const found = destination
          .stored()
          .flatMap((one) => /^Subject: (number \d+\.)/m.exec(one.toString())?.[1] ?? []);
        return found.length >= 100 && found;
      });
      assert.equal(new Set(subjects).size, 100);
      assert.equal(subjects.length, 100);
    });

    test('a recipient that it does not know bounces with its words', async () => {
      const id = await send(world, 'nobody@dest.test', 'unknown', 'x');
      assert.match(await replyTo(world, id, 'bounced'), /^550 /);
    });

    test('one that it refuses for now is deferred', {
      skip: !server.canDefer && 'it has no such setting',
    }, async () => {
      const id = await send(world, 'later@dest.test', 'later', 'x');
      assert.match(await replyTo(world, id, 'deferred'), /^450 .*try later/);
    });
  });
}

type Sending = RelayWorld & { transport: ReturnType<typeof transportFor> };

function transportFor({ node, reefKey }: RelayWorld) {
  return createTransport({
    ...{ ...node.submission, pool: true, maxConnections: 10, requireTLS: true },
    ...{ tls: { rejectUnauthorized: false }, auth: { user: reef.did, pass: reefKey } },
  });
}

/** @returns its queue id */
async function send({ transport }: Sending, to: string, subject: string, text: string): Promise<string> {
  const head = `From: Reef <a@${reef.domain}>\r\nTo: ${to}\r\nSubject: ${subject}\r\nMIME-Version: 1.0\r\n`;
  const raw = `${head}Content-Type: text/plain; charset=utf-8\r\n\r\n${text}\r\n`;
  const { response } = await transport.sendMail({ envelope: { from: `a@${reef.domain}`, to }, raw });
  return /queued as (\S+)/.exec(response)![1]!;
}

/** The destination's words, as the member reads them once the message is in that state. */
async function replyTo({ node, reefKey }: Sending, id: string, wanted: string): Promise<string> {
  return until(`${id} is ${wanted}`, async () => {
    const headers = { 'X-Atmos-DID': reef.did, Authorization: `Bearer ${reefKey}` };
    const answer = await fetch(`${node.url}/v1/messages/${id}`, { headers });
    const { recipients } = (await answer.json()) as {
      recipients: { state: string; timeline: { reply?: string }[] }[];
    };
    return recipients[0]?.state === wanted && recipients[0].timeline.at(-1)?.reply;
  });
}

/** Stored mail has a Received field or more on top, and ends its lines as files do. */
function asSent(stored: Buffer): Buffer {
  const text = stored.toString('latin1').replace(/\r?\n/g, '\r\n');
  const begin = text.indexOf('DKIM-Signature:');
  return Buffer.from(text.slice(begin), 'latin1');
}
