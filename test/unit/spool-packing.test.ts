/** Octets that are moved or freed: whose they are, and what is left of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { free, isWhole, joined } from '../../node/freeing.ts';
import { Fresh } from '../../node/spool/fresh.ts';
import { asBuffer, freeClaim, packed } from '../../node/spool/packing.ts';
import { bodyFor, due, mail, openSpool, start, storeInMemory } from './spool-fixtures.ts';

const everything = { limit: 1_000, now: start, exceptSites: [], exceptMembers: [] };

test('only what is the whole of its memory is freed, once, and nothing is found there then', () => {
  const pooled = Buffer.from('pooled');
  const own = Buffer.alloc(10_000, 'x');
  free(pooled);
  free(own.subarray(1));
  assert.equal(own[5_000], 0x78);
  free(own);
  free(own);
  assert.equal(pooled.toString(), 'pooled');
  assert.equal(own.length, 0);
  assert.ok(!isWhole(Buffer.from(new SharedArrayBuffer(8))));
});

test('a body is moved where it is given and has memory of its own, else copied', () => {
  const over = (message: ReturnType<typeof mail>) => {
    const { sent, transfer } = packed(message);
    return structuredClone(sent, { transfer });
  };
  const own = bodyFor('own', 10_000);
  const given = mail({ body: Buffer.from(new Uint8Array(own).buffer), givesBody: true });
  const lines = given.recipients[0]!.prefix.toString();
  const arrived = over(given);
  assert.deepEqual(asBuffer(arrived.body), own);
  assert.equal(asBuffer(arrived.recipients[0]!.prefix).toString(), lines);
  assert.equal(given.body.length, 0);
  for (const options of [{ body: own }, { body: own.subarray(5, 9_000), givesBody: true }]) {
    const kept = mail(options);
    assert.deepEqual(asBuffer(over(kept).body), Buffer.from(options.body));
    assert.equal(kept.body.length, options.body.length);
  }
});

test('a claim that was delivered leaves no octets; one that shares its memory keeps them', async (t) => {
  const spool = await openSpool(t);
  await spool.accept(mail({ body: bodyFor('a', 10_000), signatures: 'DKIM-Signature: s\r\n' }));
  const [first] = await due(spool, 1, start);
  const { signatures, prefix, body } = first!;
  assert.equal(Buffer.concat([signatures, prefix, body!]).indexOf(bodyFor('a', 10_000)), 19 + prefix.length);
  const shared = joined([signatures, prefix, body!, Buffer.from('of another')]);
  const of = { signatures: shared.subarray(0, 19), prefix: shared.subarray(19, 50) };
  freeClaim({ ...first!, ...of, body: shared.subarray(50, 60) });
  assert.ok(shared.length > 0);
  freeClaim(first!);
  assert.deepEqual([signatures.length, prefix.length, body!.length], [0, 0, 0]);
});

test('what was just stored is claimed from memory once, and from the database afterwards', (t) => {
  const { db, claims, accept } = storeInMemory(t);
  const body = bodyFor('fresh', 50_000);
  const [id] = accept({ body, signatures: 'S: 1\r\n' });
  db.exec('CREATE TABLE away AS SELECT * FROM content; DELETE FROM content');
  const [fresh] = claims.take(everything);
  assert.deepEqual(fresh!.body, body);
  db.exec('INSERT INTO content SELECT * FROM away');
  claims.release([id!]);
  assert.deepEqual(claims.take(everything), [fresh]);
});

test('a transaction that was rolled back leaves nothing to claim, and memory has its bound', (t) => {
  const fresh = new Fresh();
  const content = (size: number) => ({ bytes: Buffer.alloc(size, 'x'), split: 0, body_at: 0 });
  fresh.keep(1, content(10));
  fresh.forget();
  assert.equal(fresh.take(1), undefined);
  for (let seq = 1; seq <= 100; seq++) fresh.keep(seq, content(200_000));
  const kept = Array.from({ length: 100 }, (_, index) => fresh.take(index + 1)).filter((one) => one);
  assert.equal(kept.length, Math.floor((8 * 1024 * 1024) / 200_000));
  assert.ok(kept.every((one) => one!.bytes.length === 200_000));

  const { claims, accept } = storeInMemory(t);
  const bodies = Array.from({ length: 60 }, (_, index) => bodyFor(`n${index}`, 200_000));
  for (const body of bodies) accept({ body });
  const found = bodies.map(() => claims.take({ ...everything, limit: 1 })[0]!.body);
  assert.deepEqual(found, bodies);
});
