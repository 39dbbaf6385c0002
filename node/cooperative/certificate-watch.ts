/**
 * The certificate that listeners use now, and the next one when it is there: nobody restarts a mail server for it.
 *
 * Promise: listeners get a pair that belongs together, once for each change. A pair that does not (the renewal
 * is half done) changes nothing: it is logged once, and looked at again. The files are stamped before they are
 * read, so a renewal at any moment is seen.
 * Looks every 30 s rather than watching: certbot and the like replace links, which file watchers lose.
 */
import { statSync } from 'node:fs';
import type { Logger } from 'pino';
import { type Certificate, configuredCertificate, selfSignedCertificate } from './certificate.ts';

export type CertificateWatchOptions = {
  /** The certificate as it is to be used now. */
  read: () => Certificate | Promise<Certificate>;
  /** Changes when read() may give another one. Default: it always may. */
  stamp?: () => string;
  log: Pick<Logger, 'info' | 'error'>;
  count: (what: string, reason?: string) => void;
  /** Default 30 s. */
  intervalMs?: number;
};

type Shared = Pick<CertificateWatchOptions, 'log' | 'count'>;

/** The operator's files. */
export function configuredFiles(files: { certFile: string; keyFile: string }): CertificateSource {
  return { read: () => configuredCertificate(files), stamp: () => stampOf([files.certFile, files.keyFile]) };
}

/** One of our own making lives for a year, and is made anew a month before its end. */
export function selfSigned(o: Parameters<typeof selfSignedCertificate>[0]): CertificateSource {
  return { read: () => selfSignedCertificate(o), intervalMs: 12 * 3_600_000 };
}

export type CertificateSource = Omit<CertificateWatchOptions, keyof Shared>;

export class CertificateWatch {
  readonly #options: CertificateWatchOptions;
  readonly #listeners = new Set<(certificate: Certificate) => void>();
  readonly #timer: NodeJS.Timeout;
  #current: Certificate;
  #seen: string;
  #lastError: string | undefined;
  #looking: Promise<void> | undefined;

  /** @throws Error naming the file when one cannot be read or the two do not belong together */
  static async open(options: CertificateWatchOptions): Promise<CertificateWatch> {
    const stamp = options.stamp?.() ?? '';
    return new CertificateWatch(options, stamp, await options.read());
  }

  private constructor(options: CertificateWatchOptions, seen: string, current: Certificate) {
    this.#options = options;
    this.#seen = seen;
    this.#current = current;
    this.#timer = setInterval(() => void this.look(), options.intervalMs ?? 30_000);
    this.#timer.unref();
  }

  get current(): Certificate {
    return this.#current;
  }

  /** Whoever asked for `current` hears of each one after it. */
  onChange(listener: (certificate: Certificate) => void): void {
    this.#listeners.add(listener);
  }

  /** Looks now. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { read, stamp, log, count } = this.#options;
    const now = stamp?.();
    if (now !== undefined && now === this.#seen) return;
    try {
      this.#use(await read());
      if (now !== undefined) this.#seen = now;
      this.#lastError = undefined;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#lastError) log.error({ err: error }, 'the old certificate stays in use');
      this.#lastError = message;
      count('certificate_reloads_failed');
    }
  }

  #use(certificate: Certificate): void {
    if (certificate.cert === this.#current.cert && certificate.key === this.#current.key) return;
    this.#current = certificate;
    for (const listener of this.#listeners) listener(certificate);
    this.#options.count('certificates_reloaded');
    this.#options.log.info('the renewed certificate is in use');
  }
}

/** A missing file is a change too, and then an error to tell of. */
function stampOf(files: string[]): string {
  return files
    .map((file) => statSync(file, { throwIfNoEntry: false }))
    .map((stat) => (stat ? `${stat.dev}:${stat.ino}:${stat.mtimeMs}:${stat.size}` : 'none'))
    .join(' ');
}
