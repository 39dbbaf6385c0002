/**
 * Port 25 while there is no inbound mail: every recipient is refused, for good.
 *
 * Promise: 550 5.1.1 to each RCPT, so a sender learns at once that nothing arrives here; no message is
 * ever accepted. Connections, commands and idle time are bounded.
 */
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { SMTPServer } from 'smtp-server';
import { problem, smtpText } from '../errors.ts';
import '../tls-guard.ts';

export type RefuseAllOptions = {
  listen: { host: string; port: number };
  /** Said in the greeting. */
  hostname: string;
  /** PEM; offered by STARTTLS, since some senders give up without it. */
  tls?: { key: string; cert: string };
  log: Logger;
  count: (what: string, reason?: string) => void;
};

export class RefuseAllListener {
  readonly #server: SMTPServer;
  readonly #listen: RefuseAllOptions['listen'];

  constructor({ listen, hostname, tls, log, count }: RefuseAllOptions) {
    this.#listen = listen;
    this.#server = new SMTPServer({
      name: hostname,
      banner: 'no mail is taken here',
      disabledCommands: tls ? ['AUTH'] : ['AUTH', 'STARTTLS'],
      disableReverseLookup: true,
      ...tls,
      maxClients: 256,
      socketTimeout: 60_000,
      closeTimeout: 1_000,
      authOptional: true,
      onRcptTo: (_address, _session, callback) => {
        count('inbound_refused');
        callback(noSuchMailbox());
      },
    });
    // A client that breaks off, or speaks no TLS, is the network's noise.
    this.#server.on('error', (error) => log.debug({ err: error }, 'an inbound connection failed'));
  }

  /** @returns where it listens @throws when the port is taken */
  start(): Promise<{ host: string; port: number }> {
    return new Promise((resolve, reject) => {
      this.#server.server.once('error', reject);
      this.#server.listen(this.#listen.port, this.#listen.host, () => {
        this.#server.server.off('error', reject);
        const { address, port } = this.#server.server.address() as AddressInfo;
        resolve({ host: address, port });
      });
    });
  }

  /** For connections from now on. */
  updateCertificate(tls: { key: string; cert: string }): void {
    this.#server.updateSecureContext(tls);
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

function noSuchMailbox(): Error {
  const refusal = problem('NO_SUCH_MAILBOX');
  return Object.assign(new Error(smtpText(refusal)), { responseCode: refusal.entry.smtp.code });
}
