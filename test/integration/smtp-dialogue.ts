/** An SMTP client that sends exactly what it is told, byte for byte, and hands back whole replies. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

export class Dialogue {
  #socket: Socket;
  #buffered = '';
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#attach();
  }

  /** @returns the dialogue behind the greeting */
  static async open(o: { host: string; port: number }, tls = false): Promise<Dialogue> {
    return (await Dialogue.greeting(o, tls)).dialogue;
  }

  static async greeting(
    o: { host: string; port: number },
    tls = false,
  ): Promise<{ dialogue: Dialogue; greeting: string }> {
    const dialogue = new Dialogue(tls ? connectTls({ ...o, rejectUnauthorized: false }) : connect(o));
    return { dialogue, greeting: await dialogue.reply() };
  }

  /** @returns the dialogue under TLS, EHLO said, and logged in where a login is given */
  static async ready(
    o: { host: string; port: number },
    login?: { user: string; pass: string },
  ): Promise<Dialogue> {
    const dialogue = await Dialogue.open(o, true);
    await dialogue.say('EHLO client.test');
    if (login) await dialogue.say(authPlain(login));
    return dialogue;
  }

  /** @param injected sent in the clear right behind the command, as an attacker on the way would */
  async startTls(injected = ''): Promise<void> {
    this.write(`STARTTLS\r\n${injected}`);
    await this.reply();
    this.#socket.removeAllListeners();
    this.#socket = connectTls({ socket: this.#socket, rejectUnauthorized: false });
    this.#attach();
    await new Promise((resolve) => this.#socket.once('secureConnect', resolve));
  }

  /** Behind a load balancer. @param header what it says of the client; @returns the dialogue behind the greeting */
  static async proxied(
    o: { host: string; port: number },
    header: string | Buffer,
    tls = false,
  ): Promise<Dialogue> {
    const raw = connect(o);
    raw.write(header);
    const dialogue = new Dialogue(tls ? connectTls({ socket: raw, rejectUnauthorized: false }) : raw);
    await dialogue.reply();
    return dialogue;
  }

  /** One command, one reply. */
  say(line: string): Promise<string> {
    this.write(`${line}\r\n`);
    return this.reply();
  }

  /** DATA, the octets as they are (dots must be stuffed already), the final dot, and the last reply. */
  async data(octets: string | Buffer): Promise<string> {
    const go = await this.say('DATA');
    if (!go.startsWith('354')) return go;
    this.write(Buffer.concat([Buffer.from(octets), Buffer.from('.\r\n')]));
    return this.reply();
  }

  write(octets: string | Buffer): void {
    this.#socket.write(octets);
  }

  /** The next reply, all its lines; '' when the server hung up. */
  async reply(): Promise<string> {
    for (;;) {
      const whole = /^(?:\d{3}-[^\n]*\n)*\d{3}(?: [^\n]*)?\n/.exec(this.#buffered)?.[0];
      if (whole !== undefined) {
        this.#buffered = this.#buffered.slice(whole.length);
        return whole.trimEnd();
      }
      if (this.#ended) return '';
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Resolves when the server has hung up; replies before that are dropped. */
  async hungUp(): Promise<void> {
    while (!this.#ended) await this.reply();
  }

  /** What the server showed in the TLS handshake. */
  get certificate(): Buffer {
    return (this.#socket as TLSSocket).getPeerCertificate().raw;
  }

  close(): void {
    this.#socket.destroy();
  }

  #attach(): void {
    this.#socket.setNoDelay(true);
    this.#socket.on('data', (octets) => {
      this.#buffered += octets.toString('latin1');
      this.#wake();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    this.#socket.on('end', end).on('close', end).on('error', end);
  }
}

export function authPlain({ user, pass }: { user: string; pass: string }): string {
  return `AUTH PLAIN ${Buffer.from(`\0${user}\0${pass}`).toString('base64')}`;
}
