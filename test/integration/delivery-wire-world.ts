/** Destinations for one session: with TLS or without, to the letter of a script, and what they heard. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { createSecureContext, TLSSocket } from 'node:tls';
import { generate } from 'selfsigned';
import { defaultTimeouts, type Outgoing, type Session, type TlsDemand } from '../../node/delivery/client.ts';
import { type Opened, openSession, type SessionTarget } from '../../node/delivery/session.ts';

export type Certificate = { key: string; cert: string };

const day = 86_400_000;

type Wanted = {
  names?: string[];
  commonName?: string;
  issuer?: Certificate;
  from?: number;
  to?: number;
  ca?: boolean;
};

/** EC keys: quick to make. Dates are days from now. */
export async function certificate(wanted: Wanted = {}): Promise<Certificate> {
  const {
    names = [],
    commonName = names[0] ?? 'nobody.test',
    issuer,
    from = -1,
    to = 30,
    ca = false,
  } = wanted;
  const made = await generate([{ name: 'commonName', value: commonName }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: new Date(Date.now() + from * day),
    notAfterDate: new Date(Date.now() + to * day),
    extensions: [
      { name: 'basicConstraints', cA: ca, critical: true },
      ...(ca ? [{ name: 'keyUsage' as const, keyCertSign: true, critical: true }] : []),
      ...(names.length > 0
        ? [{ name: 'subjectAltName' as const, altNames: names.map((value) => ({ type: 2 as const, value })) }]
        : []),
    ],
    ...(issuer && { ca: { key: issuer.key, cert: issuer.cert } }),
  });
  return { key: made.private, cert: made.cert };
}

/** What a peer does with a command; a text is its reply. */
export type Act = string | ((socket: Socket, line: string) => void);

export type PeerOptions = {
  /** By verb; `''` is the greeting, `.` the end of the message. Unscripted: what a good server says. */
  script?: Record<string, Act>;
  /** Keywords of EHLO, STARTTLS apart. */
  offers?: string[];
  /** With it STARTTLS is offered and works; `cert` may hold the chain. */
  tls?: Certificate;
};

export type Peer = {
  port: number;
  /** What was said, over all connections: in plain, and inside TLS. */
  commands: string[];
  /** Messages with their dots unstuffed. */
  messages: string[];
  connections: () => number;
  resumed: () => number;
  /** Of the last connection. */
  remoteAddress: () => string | undefined;
};

export async function peer(
  t: TestContext,
  { script = {}, offers = [], tls }: PeerOptions = {},
): Promise<Peer> {
  const commands: string[] = [];
  const messages: string[] = [];
  const sockets = new Set<Socket>();
  const context = tls && createSecureContext({ key: tls.key, cert: tls.cert });
  let [connections, resumed] = [0, 0];
  let remoteAddress: string | undefined;

  const defaultReply = (verb: string, isSecure: boolean): string => {
    if (verb === '') return '220 peer.test';
    if (verb === 'EHLO') return ehloReply([...offers, ...(context && !isSecure ? ['STARTTLS'] : [])]);
    if (verb === 'DATA') return '354 go on';
    if (verb === 'STARTTLS') return context ? '220 go' : '502 5.5.1 not here';
    return verb === 'QUIT' ? '221 bye' : '250 2.0.0 ok';
  };

  const follow = (socket: Socket, isSecure: boolean) => {
    const act = (verb: string, line: string) => {
      const what = script[isSecure ? `TLS ${verb}` : verb] ?? script[verb] ?? defaultReply(verb, isSecure);
      if (typeof what === 'function') what(socket, line);
      else socket.write(`${what}\r\n`);
    };
    let rest = '';
    let lines: string[] | undefined;
    const onData = (bytes: Buffer) => {
      const parts = (rest + bytes.toString('latin1')).split('\r\n');
      rest = parts.pop()!;
      for (const line of parts) {
        if (lines && line !== '.') lines.push(line.replace(/^\./, ''));
        else if (lines) {
          messages.push(`${lines.join('\r\n')}\r\n`);
          lines = undefined;
          act('.', line);
        } else {
          commands.push(line);
          const verb = line.split(/[ :]/)[0]!.toUpperCase();
          act(verb, line);
          if (verb === 'DATA' && !/^[45]/.test(String(script.DATA ?? ''))) lines = [];
          if (verb === 'STARTTLS' && context && script.STARTTLS === undefined) {
            socket.off('data', onData);
            const secure = new TLSSocket(socket, { isServer: true, secureContext: context });
            secure.on('error', () => undefined);
            secure.on('secure', () => (resumed += Number(secure.isSessionReused())));
            follow(secure, true);
            return;
          }
        }
      }
    };
    socket.on('data', onData);
    if (!isSecure) act('', '');
  };

  const server = createServer({ noDelay: true }, (socket) => {
    connections += 1;
    remoteAddress = socket.remoteAddress;
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    follow(socket, false);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as { port: number }).port,
    commands,
    messages,
    connections: () => connections,
    resumed: () => resumed,
    remoteAddress: () => remoteAddress,
  };
}

function ehloReply(keywords: string[]): string {
  const lines = ['peer.test', ...keywords];
  return lines.map((line, i) => `250${i === lines.length - 1 ? ' ' : '-'}${line}`).join('\r\n');
}

export type OpenOptions = Partial<SessionTarget> & {
  timeouts?: Partial<typeof defaultTimeouts>;
  ca?: string[];
  signal?: AbortSignal;
};

export const never = new AbortController().signal;
export const opportunistic: TlsDemand = { kind: 'opportunistic' };

export function open({ port }: Pick<Peer, 'port'>, options: OpenOptions = {}): Promise<Opened> {
  const { timeouts, ca, signal = never, ...target } = options;
  return openSession(
    { name: 'mx.peer.test', address: '127.0.0.1', port, tls: opportunistic, ...target },
    { hostname: 'harbor.test', timeouts: { ...defaultTimeouts, ...timeouts }, ca },
    signal,
  );
}

/** @throws where it did not open */
export async function opened(
  t: TestContext,
  to: Pick<Peer, 'port'>,
  options?: OpenOptions,
): Promise<Session> {
  const result = await open(to, options);
  if (result.kind !== 'open') throw new Error(JSON.stringify(result));
  t.after(() => result.session.close());
  return result.session;
}

export function outgoing(change: Partial<Outgoing> = {}): Outgoing {
  const message = Buffer.from('From: a@reef.test\r\nSubject: hello\r\n\r\nhi\r\n');
  return {
    from: 'b-1@harbor.test',
    to: 'ann@peer.test',
    message,
    utf8Header: false,
    eightBit: false,
    ...change,
  };
}
