/** What all systems of a table share: a folder, a certificate, DKIM keys. */
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { inTheEnd } from './children.ts';
import { type DkimKeys, poolDomain, type Surroundings, senderDomain } from './system.ts';

export class Shared {
  readonly dir: string;
  /** What all show, to clients and as destinations. */
  readonly certificate: Surroundings['tls'];
  readonly #dkim: DkimKeys;

  private constructor(dir: string, { key, cert }: { key: string; cert: string }) {
    this.dir = dir;
    this.certificate = { keyFile: join(dir, 'key.pem'), certFile: join(dir, 'cert.pem') };
    writeFileSync(this.certificate.keyFile, key);
    writeFileSync(this.certificate.certFile, cert);
    this.#dkim = [senderDomain, poolDomain].map((domain) => makeKey(dir, domain));
  }

  static async make(): Promise<Shared> {
    const dir = mkdtempSync(join(tmpdir(), 'atmos-bench-'));
    // Postfix's processes run as another user.
    chmodSync(dir, 0o755);
    // P-256: the cheapest handshake that everybody has, so that it hides no difference.
    const made = await generate([{ name: 'commonName', value: poolDomain }], {
      ...{ keyType: 'ec', curve: 'P-256', algorithm: 'sha256' },
    });
    return new Shared(dir, { key: made.private, cert: made.cert });
  }

  /** For one system; its folder lies beside those of the others. */
  for(name: string, sinkPort: number): Surroundings {
    const dir = join(this.dir, name);
    mkdirSync(dir, { mode: 0o755 });
    return { dir, sinkPort, tls: this.certificate, dkim: this.#dkim };
  }

  /** With ATMOS_BENCH_KEEP=1 the folder stays, to read the logs. */
  readonly remove = inTheEnd(() => {
    if (process.env.ATMOS_BENCH_KEEP) console.log(`  kept: ${this.dir}`);
    else rmSync(this.dir, { recursive: true, force: true });
  });
}

function makeKey(dir: string, domain: string): DkimKeys[number] {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keyFile = join(dir, `${domain}.pem`);
  writeFileSync(keyFile, pair.privateKey.export({ type: 'pkcs1', format: 'pem' }));
  const publicKey = pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  const text = { name: `bench._domainkey.${domain}`, value: `v=DKIM1; k=rsa; p=${publicKey}` };
  return { domain, selector: 'bench', keyFile, text };
}
