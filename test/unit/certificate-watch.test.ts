import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Certificate, selfSignedCertificate } from '../../node/cooperative/certificate.ts';
import { CertificateWatch } from '../../node/cooperative/certificate-watch.ts';

describe('a renewed certificate', () => {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-certificate-'));
  const files = { certFile: join(dir, 'cert.pem'), keyFile: join(dir, 'key.pem') };
  const made: Certificate[] = [];
  const errors: string[] = [];
  const log = { info: () => undefined, error: (_fields: object, text: string) => void errors.push(text) };

  before(async () => {
    for (const name of ['one.test', 'two.test']) {
      made.push(
        await selfSignedCertificate({ dir: join(dir, name), names: [name, 'localhost'], now: Date.now }),
      );
    }
  });
  after(() => rmSync(dir, { recursive: true }));

  function write({ key, cert }: Certificate): void {
    writeFileSync(files.keyFile, key);
    writeFileSync(files.certFile, cert);
  }

  function watch(): { seen: Certificate[]; watch: CertificateWatch } {
    const seen: Certificate[] = [];
    const onChange = (certificate: Certificate) => void seen.push(certificate);
    const options = { ...files, onChange, log: log as never, count: () => undefined };
    return { seen, watch: new CertificateWatch(options) };
  }

  test('is handed over once', () => {
    write(made[0]!);
    const { seen, watch: watching } = watch();
    watching.look();
    assert.deepEqual(seen, []);
    write(made[1]!);
    watching.look();
    watching.look();
    assert.deepEqual(seen, [made[1]]);
    watching.stop();
  });

  test('that is half written is not used, told of once, and taken when it is whole', () => {
    write(made[0]!);
    errors.length = 0;
    const { seen, watch: watching } = watch();
    writeFileSync(files.certFile, made[1]!.cert);
    watching.look();
    watching.look();
    assert.deepEqual(seen, []);
    assert.equal(errors.length, 1);
    writeFileSync(files.keyFile, made[1]!.key);
    watching.look();
    assert.deepEqual(seen, [made[1]]);
    watching.stop();
  });

  test('that is gone leaves the old one in use', () => {
    write(made[0]!);
    errors.length = 0;
    const { seen, watch: watching } = watch();
    rmSync(files.certFile);
    watching.look();
    assert.deepEqual(seen, []);
    assert.equal(errors.length, 1);
    watching.stop();
  });
});
