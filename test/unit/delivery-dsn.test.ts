import assert from 'node:assert/strict';
import { isAscii } from 'node:buffer';
import { test } from 'node:test';
import { composeDsn, type DsnReport } from '../../node/delivery/dsn.ts';
import { failureReport } from './delivery-fixtures.ts';

async function dsn(change: Partial<DsnReport> = {}): Promise<string> {
  const bytes = await composeDsn({ ...failureReport, ...change });
  const text = bytes.toString('latin1');
  assert.ok(isAscii(bytes), 'a DSN goes to any mail server: 7-bit');
  assert.doesNotMatch(text, /[^\r]\n|\r[^\n]/, 'every line ends with CR LF');
  assert.ok(Math.max(...text.split('\r\n').map((line) => line.length)) <= 998);
  return text;
}

test('the three parts of RFC 3464 stand in their order, with the message’s header and not its body', async () => {
  const text = await dsn();
  const types = [...text.matchAll(/^Content-Type: ([^;\r]+)/gm)].map(([, type]) => type);
  assert.deepEqual(types, [
    'multipart/report',
    'text/plain',
    'message/delivery-status',
    'text/rfc822-headers',
  ]);
  assert.match(text, /report-type=delivery-status/);
  assert.match(text, /^Auto-Submitted: auto-replied\r$/m);
  assert.match(text, /^Subject: Not delivered: mail to ann@dest\.test\r$/m);
  assert.match(text, /\r\n\r\nFrom: a@reef\.test\r\nMessage-ID: <1@reef\.test>\r\nSubject: code\r\n/);
  assert.doesNotMatch(text, /secret body/);
});

test('the peer’s reply is verbatim, one folded line for each of its own', async () => {
  const text = await dsn();
  assert.ok(
    text.includes(
      'Diagnostic-Code: smtp; 550-5.1.1 The account that you tried to reach\r\n 550 5.1.1 does not exist\r\n',
    ),
  );
  assert.match(
    text,
    /\r\nFinal-Recipient: rfc822; ann@dest\.test\r\nAction: failed\r\nStatus: 5\.1\.1\r\nRemote-MTA: dns; mx\.dest\.test\r\n/,
  );
});

test('without a reply there is no diagnostic, and no host that was not spoken to', async () => {
  const text = await dsn({
    reply: undefined,
    remoteMta: undefined,
    status: '5.1.2',
    summary: 'no such domain',
  });
  assert.doesNotMatch(text, /Diagnostic-Code|Remote-MTA/);
  assert.match(text, /What happened: no such domain/);
});

test('what 7 bits cannot hold is written out, not lost (RFC 6533)', async () => {
  const text = await dsn({ recipient: 'jörg@dest.test', reply: '550 5.1.1 Empfänger unbekannt' });
  assert.match(text, /\r\nFinal-Recipient: utf-8; j\\x\{F6\}rg@dest\.test\r\n/);
  assert.match(text, /\r\nDiagnostic-Code: smtp; 550 5\.1\.1 Empf\\x\{E4\}nger unbekannt\r\n/);
});

test('a reply cannot add fields, and a huge one is folded', async () => {
  const text = await dsn({ reply: `550 no\r\nAction: delivered\r\n\r\nStatus: 2.0.0\0${'x'.repeat(1_900)}` });
  assert.equal([...text.matchAll(/^Action: /gm)].length, 1);
  assert.equal([...text.matchAll(/^Status: /gm)].length, 1);
});

test('a header of the member’s that is long, or beyond ASCII, is returned within bounds', async () => {
  const long = `From: a@reef.test\r\n${'X-Filler: '.padEnd(900, 'x')}\r\n`;
  const huge = await dsn({ original: Buffer.from(`${long.repeat(100)}\r\nbody`) });
  assert.ok(huge.length < 40_000);
  await dsn({ original: Buffer.from('From: a@reef.test\r\nSubject: Grüße\r\n\r\nbody') });
  await dsn({ original: Buffer.from(`Subject: ${'x'.repeat(5_000)}\r\n\r\nbody`) });
  await dsn({ original: Buffer.from('no header end at all') });
  await dsn({ original: Buffer.alloc(0) });
});
