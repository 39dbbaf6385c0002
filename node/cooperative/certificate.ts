/**
 * A TLS certificate for the mail ports where none is configured.
 *
 * Self-signed: it encrypts, and proves nothing. Enough for a sandbox and for SMTP between servers, where
 * certificates are rarely checked; members' programs want a real one (`tls` in the configuration).
 * Kept beside the keys so that a restart shows clients the same certificate.
 */
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { createIfMissing, readPrivate } from './key-files.ts';

/** PEM. */
export type Certificate = { key: string; cert: string };

const lifetimeMs = 365 * 24 * 3_600_000;
/** Made anew when less than this is left. */
const renewBeforeMs = 30 * 24 * 3_600_000;

/** The operator's own. @throws Error naming the file when one cannot be read or the two do not belong together */
export function configuredCertificate({
  certFile,
  keyFile,
}: {
  certFile: string;
  keyFile: string;
}): Certificate {
  const made = { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(certFile, 'utf8') };
  try {
    createSecureContext(made);
  } catch (error) {
    throw new Error(`${certFile} and ${keyFile} are no certificate and its key: ${(error as Error).message}`);
  }
  return made;
}

/**
 * The stored certificate for these names, or a new one where it is missing, near its end or for others.
 *
 * @param dir `state/keys`
 * @param names host names; the first is the common name
 */
export async function selfSignedCertificate(o: {
  dir: string;
  names: [string, ...string[]];
  now: () => number;
}): Promise<Certificate> {
  // One file for both parts: a crash cannot leave a key without its certificate.
  const file = join(o.dir, 'tls-self-signed.pem');
  mkdirSync(o.dir, { recursive: true, mode: 0o700 });
  if (existsSync(file) && !isUsable(readFileSync(file, 'utf8'), o.names, o.now())) rmSync(file);
  await createIfMissing(file, () => makePem(o.names, o.now()));
  return split(readPrivate(file));
}

async function makePem(names: [string, ...string[]], now: number): Promise<string> {
  // Loaded when needed: it is large, and a certificate is made once a year.
  const { generate } = await import('selfsigned');
  const made = await generate([{ name: 'commonName', value: names[0] }], {
    keyType: 'ec',
    algorithm: 'sha256',
    // Clocks of others may be behind ours.
    notBeforeDate: new Date(now - 24 * 3_600_000),
    notAfterDate: new Date(now + lifetimeMs),
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'extKeyUsage', serverAuth: true },
      { name: 'subjectAltName', altNames: names.map((value) => ({ type: 2, value })) },
    ],
  });
  return `${made.private.trim()}\n${made.cert.trim()}\n`;
}

function isUsable(pem: string, names: string[], now: number): boolean {
  try {
    const certificate = new X509Certificate(split(pem).cert);
    const ends = Date.parse(certificate.validTo);
    return ends - now > renewBeforeMs && names.every((name) => certificate.checkHost(name) !== undefined);
  } catch {
    return false;
  }
}

function split(pem: string): Certificate {
  const at = pem.indexOf('-----BEGIN CERTIFICATE-----');
  return { key: pem.slice(0, at), cert: pem.slice(at) };
}
