import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Certificate, selfSignedCertificate } from '../../node/cooperative/certificate.ts';
import { CertificateWatch, configuredFiles, selfSigned } from '../../node/cooperative/certificate-watch.ts';

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

  async function watch() {
    const seen: Certificate[] = [];
    const watching = await CertificateWatch.open({
      ...{ ...configuredFiles(files), log: log as never, count: () => undefined },
    });
    watching.onChange((certificate) => void seen.push(certificate));
    return { seen, watching };
  }

  test('is handed over once', async () => {
    write(made[0]!);
    const { seen, watching } = await watch();
    assert.deepEqual(watching.current, made[0]);
    await watching.look();
    assert.deepEqual(seen, []);
    write(made[1]!);
    await watching.look();
    await watching.look();
    assert.deepEqual([seen, watching.current], [[made[1]], made[1]]);
    await watching.stop();
  });

  test('that comes between the first reading and the first look is seen', async () => {
    write(made[0]!);
    const { read, stamp } = configuredFiles(files);
    const watching = await CertificateWatch.open({
      read: async () => {
        const read0 = await read();
        // The start takes its time: the renewal comes right behind the reading.
        if (read0.cert === made[0]!.cert) write(made[1]!);
        return read0;
      },
      ...{ stamp: stamp!, log: log as never, count: () => undefined },
    });
    const seen: Certificate[] = [];
    watching.onChange((certificate) => void seen.push(certificate));
    await watching.look();
    assert.deepEqual(seen, [made[1]]);
    await watching.stop();
  });

  test('that is half written is not used, told of once, and taken when it is whole', async () => {
    write(made[0]!);
    errors.length = 0;
    const { seen, watching } = await watch();
    writeFileSync(files.certFile, made[1]!.cert);
    await watching.look();
    await watching.look();
    assert.deepEqual(seen, []);
    assert.equal(errors.length, 1);
    writeFileSync(files.keyFile, made[1]!.key);
    await watching.look();
    assert.deepEqual(seen, [made[1]]);
    await watching.stop();
  });

  test('that is gone leaves the old one in use', async () => {
    write(made[0]!);
    errors.length = 0;
    const { seen, watching } = await watch();
    rmSync(files.certFile);
    await watching.look();
    assert.deepEqual(seen, []);
    assert.equal(errors.length, 1);
    await watching.stop();
  });

  test('of our own making is made anew a month before its end, without a restart', async () => {
    let clock = Date.now();
    const source = selfSigned({ dir: join(dir, 'own'), names: ['mail.test'], now: () => clock });
    const watching = await CertificateWatch.open({ ...source, log: log as never, count: () => undefined });
    const seen: Certificate[] = [];
    watching.onChange((certificate) => void seen.push(certificate));
    clock += 300 * 24 * 3_600_000;
    await watching.look();
    assert.deepEqual(seen, []);
    clock += 60 * 24 * 3_600_000;
    await watching.look();
    assert.equal(seen.length, 1);
    await watching.stop();
  });
});
