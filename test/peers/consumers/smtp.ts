/**
 * One SMTP session that comes from any address: the PROXY protocol says which, as a load balancer does.
 *
 * It ends at the first reply that is not positive, and says what that was.
 */
import { once } from 'node:events';
import { connect, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

export type Session = {
  port: number;
  /** The client's address, as the server shall see it. */
  from: string;
  mailFrom: string;
  to?: string;
  helo?: string;
  /** Absent: RCPT is the last word. */
  message?: Buffer;
};

/** @returns the last reply, all of its lines */
export async function smtp(o: Session): Promise<string> {
  const socket = connect({ port: o.port, host: '127.0.0.1' });
  await once(socket, 'connect');
  const lines = createInterface({ input: socket, crlfDelay: Number.POSITIVE_INFINITY })[
    Symbol.asyncIterator
  ]();
  const reply = async () => {
    const said: string[] = [];
    for (;;) {
      const { value, done } = await lines.next();
      if (done) return [...said, 'closed'].join('\n');
      said.push(value);
      if (value[3] !== '-') return said.join('\n');
    }
  };
  const [family, to] = isIPv6(o.from) ? ['TCP6', '::1'] : ['TCP4', '127.0.0.1'];
  socket.write(`PROXY ${family} ${o.from} ${to} 40000 25\r\n`);
  const words = [
    `EHLO ${o.helo ?? 'client.test'}`,
    `MAIL FROM:<${o.mailFrom}>`,
    `RCPT TO:<${o.to ?? 'b@dest.test'}>`,
    ...(o.message ? ['DATA', `${stuffed(o.message)}.`] : []),
  ];
  try {
    let said = await reply();
    for (const word of words) {
      if (!/^[23]/.test(said)) break;
      socket.write(`${word}\r\n`, 'latin1');
      said = await reply();
    }
    return said;
  } finally {
    socket.destroy();
  }
}

/** RFC 5321 §4.5.2. */
function stuffed(message: Buffer): string {
  return message.toString('latin1').replace(/^\./gm, '..');
}
