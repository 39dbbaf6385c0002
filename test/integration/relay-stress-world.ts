/** What relay-stress.test.ts and its child agree on, and the destinations that misbehave. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Resolver } from '../../node/resolver.ts';
import type { Selection } from '../../node/spool/spool.ts';

export type Order =
  | {
      what: 'accept';
      queueId: string;
      did: string;
      to: string[];
      size: number;
      later?: boolean;
      hold?: string;
    }
  | {
      what: 'act';
      act: 'hold' | 'unhold' | 'retryNow' | 'cancel' | 'fail' | 'reroute';
      selection: Selection;
      to?: string;
    }
  | { what: 'cancelScheduled' | 'message'; queueId: string }
  | { what: 'messages'; cursor?: string }
  | { what: 'events'; after: string }
  | { what: 'summary' | 'stop' };
export type Asked = { id: number; order: Order };

/** A minute in 100 ms. */
const speed = 600;
export const clockFrom = (epoch: number) => (): number => Math.floor(epoch + (Date.now() - epoch) * speed);

export const dsnTo = 'owner@dsn.test';

/** By domain: the address, on the one port, at which it behaves so. */
export const behaviours = {
  'good.test': '127.0.0.2',
  'soft.test': '127.0.0.3',
  'hard.test': '127.0.0.4',
  'drops.test': '127.0.0.5',
  'slow.test': '127.0.0.6',
  'busy.test': '127.0.0.7',
  'liar.test': '127.0.0.8',
  /** Nobody listens. */
  'dead.test': '127.0.0.9',
} as const;
export type Behaviour = keyof typeof behaviours;

const server = '127.0.0.1:53';

/** `many` domains share the exchanger of good.test; `down.test` gets no answer; all others are what their name says. */
export const resolver: Resolver = {
  txt: async () => ({ server, kind: 'none' }),
  mx: async (name) => {
    if (name === 'down.test') return { server, kind: 'failed', reason: 'SERVFAIL' };
    if (name === 'gone.test') return { server, kind: 'nxdomain' };
    return { server, kind: 'found', records: [{ preference: 10, exchange: exchangerOf(name) }] };
  },
  a: async (name) => {
    const address = behaviours[name.replace(/^mx\./, '') as Behaviour];
    return address ? { server, kind: 'found', records: [address] } : { server, kind: 'none' };
  },
  aaaa: async () => ({ server, kind: 'none' }),
};

function exchangerOf(name: string): string {
  return name.startsWith('many') || name === 'dsn.test' ? 'mx.good.test' : `mx.${name}`;
}

/** Recipient ids in the order in which a sink said 250 to them. */
export type Ledger = { taken: string[] };

/** Ready to be ended by the test: `[]` of servers on one port, an address each. */
export async function sinks(ledger: Ledger): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const servers: Server[] = [];
  let port = 0;
  for (const [name, address] of Object.entries(behaviours)) {
    if (name === 'dead.test') continue;
    const one = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
      new Dialogue(socket, name as Behaviour, ledger).greet();
    });
    one.listen(port, address);
    await once(one, 'listening');
    port = (one.address() as { port: number }).port;
    servers.push(one);
  }
  const close = () => {
    for (const one of servers) one.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port, close };
}

class Dialogue {
  readonly #socket: Socket;
  readonly #behaviour: Behaviour;
  readonly #ledger: Ledger;
  #rest = '';
  #inData = false;
  #inHeader = false;
  #message = '';

  constructor(socket: Socket, behaviour: Behaviour, ledger: Ledger) {
    this.#socket = socket;
    this.#behaviour = behaviour;
    this.#ledger = ledger;
  }

  greet(): void {
    this.#socket.setEncoding('latin1').on('data', (text: string) => this.#read(text));
    if (this.#behaviour === 'busy.test' && chance(0.3)) this.#end('421 4.3.2 too many connections');
    else this.#answer('', '220 sink.test');
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\r\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (this.#inData && line !== '.') {
      this.#inHeader &&= line !== '';
      if (this.#inHeader) this.#message += `${line}\n`;
      return;
    }
    const verb = this.#inData ? '.' : line.slice(0, 4).toUpperCase();
    if (verb === 'EHLO') this.#answer(verb, '250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME');
    else if (verb === 'DATA') {
      this.#inData = true;
      this.#inHeader = true;
      this.#message = '';
      this.#answer(verb, '354 go on');
    } else if (verb === '.') {
      this.#inData = false;
      this.#answer(verb, '250 2.0.0 kept');
    } else if (verb === 'QUIT') this.#end('221 bye');
    else this.#answer(verb, '250 ok');
  }

  #answer(verb: string, usual: string): void {
    const { reply, ends } = misbehave(this.#behaviour, verb) ?? { reply: usual, ends: false };
    if (this.#socket.destroyed || reply === silence) return;
    // Refused, DATA is followed by commands.
    if (verb === 'DATA' && !reply.startsWith('3')) this.#inData = false;
    if (verb === '.' && reply.startsWith('2'))
      this.#ledger.taken.push(/^X-Atmos-Id: (\S+)$/m.exec(this.#message)?.[1] ?? 'dsn');
    if (ends) this.#end(reply);
    else this.#socket.write(`${reply}\r\n`);
  }

  #end(reply: string): void {
    if (reply === '') this.#socket.destroy();
    else this.#socket.end(`${reply}\r\n`);
  }
}

const silence = 'says nothing';

/** Undefined: as usual. */
function misbehave(behaviour: Behaviour, verb: string): { reply: string; ends: boolean } | undefined {
  const says = (reply: string, ends = false) => ({ reply, ends });
  switch (behaviour) {
    case 'soft.test':
      if (verb === 'RCPT' && chance(0.5)) return says('451 4.7.1 greylisted');
      return verb === '.' && chance(0.3) ? says('452 4.3.1 no room') : undefined;
    case 'hard.test':
      if (verb === 'RCPT' && chance(0.5)) return says('550 5.1.1 no such user');
      return verb === '.' && chance(0.3) ? says('554 5.7.1 no') : undefined;
    case 'drops.test':
      return chance(0.08) ? says('', true) : undefined;
    case 'slow.test':
      // Our own patience ends it.
      return chance(0.04) ? says(silence) : undefined;
    case 'busy.test':
      return verb === 'MAIL' && chance(0.2) ? says('421 4.7.0 slow down', true) : undefined;
    case 'liar.test':
      if (verb === 'DATA' && chance(0.3)) return says('250 already have it');
      return verb === 'RCPT' && chance(0.2) ? says('250 ok\r\n250 and more') : undefined;
    default:
      return undefined;
  }
}

function chance(p: number): boolean {
  return Math.random() < p;
}
