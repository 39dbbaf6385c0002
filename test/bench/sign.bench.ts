/** The three signatures of a message: CPU of all threads and of the main one, beside mailauth's dkimSign. */
import { dkimSign } from 'mailauth/lib/dkim/sign.js';
import { prefixOf } from '../../node/relay/compose.ts';
import { parseMessage } from '../../node/relay/message.ts';
import { memberKeys, poolKey, startSigner } from '../unit/signing-fixtures.ts';
import { compare, type Row } from './compare.ts';

const perRound = 600;
/** Messages under way at a time. */
const sessions = 30;

const header =
  'From: Reef <a@reef.test>\r\nTo: Somebody <b@example.com>\r\nSubject: The weekly tide table\r\n' +
  'Date: Fri, 20 Nov 2026 11:00:00 +0000\r\nMessage-ID: <tide@reef.test>\r\nMIME-Version: 1.0\r\n' +
  'Content-Type: text/plain; charset=utf-8\r\n\r\n';
const line = 'The quick brown fox jumps over the lazy dog, and again and again it does.\r\n';

export async function bench(): Promise<Row[]> {
  const signer = startSigner({ memberKeysVersion: () => '1' });
  const rows: Row[] = [];
  for (const kilobytes of [10, 100]) {
    const body = Buffer.from(header + line.repeat(Math.ceil((kilobytes * 1024) / line.length)));
    const prefix = prefixFor(body);
    const ours = async () => {
      // A buffer of its own for each, as it comes from a socket.
      const made = await signer.sign({ prefixes: [prefix], body: Buffer.from(body), domain: 'reef.test' });
      if (made.kind === 'failed') throw new Error(made.reason);
    };
    const theirs = () => signWithMailauth(Buffer.concat([prefix, body]));
    for (const [where, meter] of [
      ['all threads', process.cpuUsage],
      ['main thread', process.threadCpuUsage],
    ] as const) {
      const what = `three signatures, ${kilobytes} KB, ${where} / mailauth`;
      rows.push(
        await compare(
          what,
          'CPU ms each',
          () => cpu(meter, ours),
          () => cpu(meter, theirs),
        ),
      );
    }
  }
  await signer.close();
  return rows;
}

async function cpu(
  meter: (since?: NodeJS.CpuUsage) => NodeJS.CpuUsage,
  work: () => Promise<unknown>,
): Promise<number> {
  const before = meter();
  let left = perRound;
  const session = async () => {
    while (left-- > 0) await work();
  };
  await Promise.all(Array.from({ length: sessions }, session));
  const { user, system } = meter(before);
  return (user + system) / 1000 / perRound;
}

async function signWithMailauth(message: Buffer): Promise<void> {
  const { errors } = await dkimSign(message, {
    canonicalization: 'relaxed/relaxed',
    signTime: new Date(),
    signatureData: [...memberKeys, poolKey].map(({ domain, selector, algorithm, privateKey }) => ({
      ...{ signingDomain: domain, selector, privateKey },
      algorithm: `${algorithm}-sha256`,
    })),
  } as Parameters<typeof dkimSign>[1]);
  if (errors.length > 0) throw new Error(errors.map(({ err }) => err.message).join());
}

function prefixFor(body: Buffer): Buffer {
  const parsed = parseMessage(body);
  if (parsed.kind === 'fault') throw new Error(parsed.what);
  return prefixOf({
    message: parsed.message,
    ...{
      queueId: '0123456789abcdef',
      recipientId: '0123456789abcdef.1',
      did: 'did:plc:abcdefghijklmnopqrstuvwx',
    },
    ...{ domain: 'reef.test', category: 'bulk', poolDomain: 'harbor.test', hostname: 'mx.harbor.test' },
    ...{ protocol: 'ESMTPSA', receivedAt: Date.now(), apex: 'list.harbor.test' },
    unsubscribe: `https://mail.harbor.test/u/${'a'.repeat(130)}`,
  });
}
