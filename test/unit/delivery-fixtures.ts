/** A small DNS world, destinations that behave and that do not, and a Deliverer between spool and them. */
import { EventEmitter, on, once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import type { TlsPolicy } from '../../node/delivery/client.ts';
import { Deliverer, type DelivererOptions } from '../../node/delivery/deliverer.ts';
import type { DsnReport } from '../../node/delivery/dsn.ts';
import type { Answer, MxRecord, Resolver } from '../../node/resolver.ts';
import { type RecipientStatus, Spool } from '../../node/spool/spool.ts';
import { Clock, mail, silent, start, temporaryFolder } from './spool-fixtures.ts';

type Zone = { mx?: [preference: number, exchange: string][]; a?: string[]; aaaa?: string[] };

/** What is not in `zones` does not exist; `'down'` is a server that does not answer. */
export function resolverOf(zones: Record<string, Zone | 'down'>): Resolver {
  const ask = <T>(name: string, read: (zone: Zone) => T[] | undefined): Promise<Answer<T>> => {
    const zone = zones[name];
    const server = '127.0.0.1:53';
    if (zone === 'down') return Promise.resolve({ server, kind: 'failed', reason: 'SERVFAIL' });
    if (zone === undefined) return Promise.resolve({ server, kind: 'nxdomain' });
    const records = read(zone);
    return Promise.resolve(records ? { server, kind: 'found', records } : { server, kind: 'none' });
  };
  const exchangers = (zone: Zone): MxRecord[] | undefined =>
    zone.mx?.map(([preference, exchange]) => ({ preference, exchange }));
  return {
    txt: (name) => ask<string>(name, () => undefined),
    mx: (name) => ask(name, exchangers),
    a: (name) => ask(name, (zone) => zone.a),
    aaaa: (name) => ask(name, (zone) => zone.aaaa),
  };
}

/** One address for every name: the destination under test, on whatever port it got. */
export const everythingHere: Resolver = {
  txt: () => Promise.resolve({ server: '', kind: 'none' }),
  mx: () => Promise.resolve({ server: '', kind: 'none' }),
  a: () => Promise.resolve({ server: '', kind: 'found', records: ['127.0.0.1'] }),
  aaaa: () => Promise.resolve({ server: '', kind: 'none' }),
};

type Listen = { port: number; host: string };
const anyPort: Listen = { port: 0, host: '127.0.0.1' };

export type Received = { from: string; to: string; bytes: Buffer; secure: boolean; args: unknown };

/** A real server with STARTTLS that keeps what it gets; `hooks` make it refuse. */
export async function destination(
  t: TestContext,
  hooks: Partial<SMTPServerOptions> = {},
  at: Listen = anyPort,
): Promise<{ port: number; received: Received[] }> {
  const received: Received[] = [];
  const server = new SMTPServer({
    authOptional: true,
    logger: false,
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        const { address: from, args } = mailFrom || { address: '', args: false };
        received.push({
          from,
          to: rcptTo[0]!.address,
          bytes: Buffer.concat(chunks),
          secure: session.secure,
          args,
        });
        done(null, 'kept');
      });
    },
    ...hooks,
  });
  server.on('error', () => undefined);
  server.listen(at.port, at.host);
  await once(server.server, 'listening');
  t.after(() => new Promise<void>((resolve) => server.close(resolve)));
  return { port: (server.server.address() as { port: number }).port, received };
}

/** What a scripted server says to each command, by its first word; `''` is the greeting, `.` the end of DATA. */
export type Script = Record<string, string | ((socket: Socket) => void)>;

/** A server that follows a script to the letter, without TLS. Unscripted commands get `250 ok`. */
export async function scripted(
  t: TestContext,
  script: Script,
  at: Listen = anyPort,
): Promise<{ port: number; commands: string[]; connections: () => number }> {
  const commands: string[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    const say = (key: string) => {
      const reply =
        script[key] ?? (key === '' ? '220 scripted.test' : key === 'DATA' ? '354 go on' : '250 ok');
      if (typeof reply === 'function') reply(socket);
      else socket.write(`${reply}\r\n`);
    };
    say('');
    follow(socket, commands, say);
  });
  server.listen(at.port, at.host);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as { port: number }).port, commands, connections: () => connections };
}

function follow(socket: Socket, commands: string[], say: (key: string) => void): void {
  let rest = '';
  let inData = false;
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\r\n');
    rest = lines.pop()!;
    for (const line of lines) {
      if (inData && line !== '.') continue;
      const verb = inData ? '.' : line.split(/[ :]/)[0]!.toUpperCase();
      inData = verb === 'DATA';
      if (verb !== '.') commands.push(line);
      say(verb);
    }
  });
}

/** What each host must offer, without any policy of a domain's own. */
export function everyHost(tls: TlsPolicy): DelivererOptions['tls'] {
  const demand = { kind: tls === 'required' ? 'encrypted' : 'opportunistic' } as const;
  return {
    demandsFor: (_domain, { hosts }) =>
      Promise.resolve({ kind: 'hosts', hosts: hosts.map((host) => ({ host, demand })) }),
  };
}

export type World = {
  spool: Spool;
  deliverer: Deliverer;
  /** Another one of the same kind, for after a stop. */
  again: () => Deliverer;
  clock: Clock;
  /** Resolves with the reason at the next count of this name. */
  next: (what: string) => Promise<string>;
  /** The outcomes of the next `n` tries, in their order. */
  results: (n: number) => Promise<string[]>;
  recipient: (queueId: string) => Promise<RecipientStatus>;
};

/** Nobody is left out. */
export const anywhere = { exceptSites: [], exceptMembers: [] };

export async function world(
  t: TestContext,
  options: Partial<Omit<DelivererOptions, 'spool' | 'count' | 'now' | 'tls'>> & {
    forwardTo?: string;
    tls?: TlsPolicy | DelivererOptions['tls'];
  } = {},
): Promise<World> {
  const clock = new Clock();
  const spool = await Spool.open({ dir: temporaryFolder(t), log: silent, now: clock.now });
  const counts = new EventEmitter();
  const { forwardTo, tls = 'opportunistic', ...rest } = options;
  const deliverers: Deliverer[] = [];
  const settings: DelivererOptions = {
    resolver: everythingHere,
    port: 1,
    loopbackOnly: true,
    tls: typeof tls === 'string' ? everyHost(tls) : tls,
    hostname: 'harbor.test',
    dsn: {
      recipientFor: () => forwardTo,
      seal: () => Promise.resolve(Buffer.from('X-Sealed: yes\r\n')),
      from: 'mailer-daemon@harbor.test',
    },
    log: silent,
    now: clock.now,
    ...rest,
    spool,
    count: (what, reason) => counts.emit(what, reason),
  };
  const again = () => {
    const deliverer = new Deliverer(settings);
    deliverers.push(deliverer);
    return deliverer;
  };
  t.after(async () => {
    for (const deliverer of deliverers) await deliverer.stop();
    await spool.close();
  });
  return {
    spool,
    deliverer: again(),
    again,
    clock,
    next: async (what) => (await once(counts, what))[0] as string,
    results: async (n) => {
      const seen: string[] = [];
      for await (const [state] of on(counts, 'delivery_results')) if (seen.push(state) === n) break;
      return seen;
    },
    recipient: async (queueId) => (await spool.message(queueId))!.recipients[0]!,
  };
}

/** Accepts one message, starts the deliverer and waits for the end of the first try. */
export async function firstTry(
  { spool, deliverer, next, recipient }: World,
  message = mail(),
): Promise<RecipientStatus & { result: string }> {
  await spool.accept(message);
  const result = next('delivery_results');
  deliverer.start();
  return { result: await result, ...(await recipient(message.queueId)) };
}

/** What a DSN has to tell; tests change what they look at. */
export const failureReport: DsnReport = {
  action: 'failed',
  reportingMta: 'harbor.test',
  from: 'mailer-daemon@harbor.test',
  to: 'owner@elsewhere.test',
  queueId: '1k7s3cupknapcit0',
  receivedAt: start,
  now: start + 60_000,
  recipient: 'ann@dest.test',
  status: '5.1.1',
  summary: 'the destination refused the recipient',
  reply: '550-5.1.1 The account that you tried to reach\n550 5.1.1 does not exist',
  remoteMta: 'mx.dest.test',
  lastAttemptAt: start + 59_000,
  original: Buffer.from(
    'From: a@reef.test\r\nMessage-ID: <1@reef.test>\r\nSubject: code\r\n\r\nsecret body\r\n',
  ),
};
