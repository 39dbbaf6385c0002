/** One DNS question over UDP, encoded and decoded by dns-packet: not our own codec. */
import { createSocket } from 'node:dgram';
import { type Answer, decode, encode, type RecordType } from 'dns-packet';

export type Reply = { rcode: string; answers: Answer[]; authorities: Answer[] };

/** @throws after two seconds without an answer */
export function askDns(
  server: { host: string; port: number },
  name: string,
  type: RecordType = 'A',
): Promise<Reply> {
  const socket = createSocket('udp4');
  const id = Math.floor(Math.random() * 65536);
  return new Promise<Reply>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer for ${name} from port ${server.port}`)), 2000);
    socket.once('error', reject);
    socket.once('message', (bytes) => {
      clearTimeout(timer);
      const packet = decode(bytes) as ReturnType<typeof decode> & { rcode: string };
      resolve({ rcode: packet.rcode, answers: packet.answers ?? [], authorities: packet.authorities ?? [] });
    });
    socket.send(
      encode({ type: 'query', id, flags: 0x0100, questions: [{ type, name, class: 'IN' }] }),
      server.port,
      server.host,
    );
  }).finally(() => socket.close());
}

/** The address of an A answer; `NODATA` where the name has other records, or only names below it; else the rcode. */
export async function addressOf(server: { host: string; port: number }, name: string): Promise<string> {
  const { rcode, answers } = await askDns(server, name);
  const first = answers[0];
  if (first?.type === 'A') return first.data;
  return rcode === 'NOERROR' ? 'NODATA' : rcode;
}

/** The joined strings of the first TXT answer. */
export async function textOf(
  server: { host: string; port: number },
  name: string,
): Promise<string | undefined> {
  const first = (await askDns(server, name, 'TXT')).answers[0];
  return first?.type === 'TXT' ? [first.data].flat().map(String).join('') : undefined;
}
