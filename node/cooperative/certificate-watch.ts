/**
 * Notices a renewed certificate, so that nobody restarts a mail server for it.
 *
 * Promise: `onChange` is called with a pair that belongs together, once for each change. A pair that does not
 * (the renewal is half done) changes nothing: it is logged once, and looked at again.
 * Looks every 30 s rather than watching: certbot and the like replace links, which file watchers lose.
 */
import { statSync } from 'node:fs';
import type { Logger } from 'pino';
import { type Certificate, configuredCertificate } from './certificate.ts';

export type CertificateWatchOptions = {
  certFile: string;
  keyFile: string;
  onChange: (certificate: Certificate) => void;
  log: Pick<Logger, 'info' | 'error'>;
  count: (what: string, reason?: string) => void;
  /** Default 30 s. */
  intervalMs?: number;
};

export class CertificateWatch {
  readonly #options: CertificateWatchOptions;
  readonly #timer: NodeJS.Timeout;
  #seen: string;
  #lastError: string | undefined;

  /** To be made right after the certificate was read: what is there now counts as known. */
  constructor(options: CertificateWatchOptions) {
    this.#options = options;
    this.#seen = this.#stamp();
    this.#timer = setInterval(() => this.look(), options.intervalMs ?? 30_000);
    this.#timer.unref();
  }

  /** Looks now. Never throws. */
  look(): void {
    const stamp = this.#stamp();
    if (stamp === this.#seen) return;
    const { certFile, keyFile, onChange, log, count } = this.#options;
    try {
      onChange(configuredCertificate({ certFile, keyFile }));
      this.#seen = stamp;
      this.#lastError = undefined;
      count('certificates_reloaded');
      log.info({ certFile }, 'the renewed certificate is in use');
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#lastError) log.error({ err: error }, 'the old certificate stays in use');
      this.#lastError = message;
      count('certificate_reloads_failed');
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** A missing file is a change too, and then an error to tell of. */
  #stamp(): string {
    const { certFile, keyFile } = this.#options;
    return [certFile, keyFile]
      .map((file) => statSync(file, { throwIfNoEntry: false }))
      .map((stat) => (stat ? `${stat.dev}:${stat.ino}:${stat.mtimeMs}:${stat.size}` : 'none'))
      .join(' ');
  }
}
