/**
 * The PDS of the sandbox: @atproto/pds as it is, on loopback, in its own folder.
 *
 * Promise: it listens on 127.0.0.1 only, names no crawler, sends no mail unless `email` says how, and has
 * the same secrets and repositories at every start of the same folder. It is silent unless LOG_ENABLED is set.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { PDS } from '@atproto/pds';
import { keptSecret, randomHex } from './secrets.ts';

type PdsSecrets = { jwtSecret: string; adminPassword: string; plcRotationKey: string };

/**
 * @param folder made when missing
 * @param port fixed for the life of the folder: it stands in every DID document
 * @throws when the port is taken
 */
export async function startPds(o: {
  folder: string;
  port: number;
  plcUrl: string;
  /** PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS. */
  email?: { smtpUrl: string; fromAddress: string };
}): Promise<PDS> {
  const blobs = join(o.folder, 'blobs');
  mkdirSync(blobs, { recursive: true, mode: 0o700 });
  const secrets = keptSecret<PdsSecrets>(join(o.folder, 'secrets.json'), () => ({
    jwtSecret: randomHex(16),
    adminPassword: randomHex(16),
    plcRotationKey: randomHex(32),
  }));
  const pds = await PDS.fromEnv({
    devMode: true,
    hostname: 'localhost',
    port: o.port,
    didPlcUrl: o.plcUrl,
    dataDirectory: o.folder,
    blobstoreDiskLocation: blobs,
    disableSsrfProtection: true,
    inviteRequired: false,
    rateLimitsEnabled: false,
    serviceHandleDomains: ['.test'],
    crawlers: [],
    jwtSecret: secrets.jwtSecret,
    adminPassword: secrets.adminPassword,
    plcRotationKeyK256PrivateKeyHex: secrets.plcRotationKey,
    ...(o.email && { emailSmtpUrl: o.email.smtpUrl, emailFromAddress: o.email.fromAddress }),
  });
  listenOnLoopback(pds);
  await pds.start();
  return pds;
}

/** PDS.start() names a port alone, which would be every interface. */
function listenOnLoopback(pds: PDS): void {
  const listen = pds.app.listen.bind(pds.app) as (
    port: number,
    host: string,
  ) => ReturnType<PDS['app']['listen']>;
  pds.app.listen = ((port: number) => listen(port, '127.0.0.1')) as PDS['app']['listen'];
}
