import assert from 'node:assert/strict';
import { test } from 'node:test';
import { smtpText } from '../../node/errors.ts';
import { parseMail, parseRcpt } from '../../node/relay/submission-command.ts';

const mail = (line: string) => parseMail(Buffer.from(line));
const rcpt = (line: string, smtpUtf8 = false) => parseRcpt(Buffer.from(line), smtpUtf8);
const plain = { kind: 'mail', address: 'a@b.test', smtpUtf8: false, requireTls: false };

const goodMail: [line: string, command: object][] = [
  ['MAIL FROM:<a@b.test>', plain],
  ['mail from: <a@b.test>', plain],
  ['MAIL FROM:<a@b.test> ', plain],
  ['MAIL FROM:<>', { ...plain, address: '' }],
  ['MAIL FROM:<"a b"@c.test>', { ...plain, address: '"a b"@c.test' }],
  ['MAIL FROM:<"a> SIZE=1 <"@c.test>', { ...plain, address: '"a> SIZE=1 <"@c.test' }],
  ['MAIL FROM:<@x.test,@y.test:a@b.test>', plain],
  ['MAIL FROM:<jané@b.test> SMTPUTF8', { ...plain, address: 'jané@b.test', smtpUtf8: true }],
  ['MAIL FROM:<a@b.test> SIZE=123 BODY=8BITMIME', { ...plain, size: 123 }],
  ['MAIL FROM:<a@b.test> body=7bit size=0', { ...plain, size: 0 }],
  ['MAIL FROM:<a@b.test> REQUIRETLS', { ...plain, requireTls: true }],
  ['MAIL FROM:<a@b.test> RET=HDRS ENVID=QQ314159', { ...plain, ret: 'hdrs', envid: 'QQ314159' }],
  ['MAIL FROM:<a@b.test> RET=full ENVID=a+2Bb+20c+3D', { ...plain, ret: 'full', envid: 'a+b c=' }],
  ['MAIL FROM:<a@b.test> AUTH=<>', plain],
  ['MAIL FROM:<a@b.test> AUTH=e+2Bx@b.test', plain],
  [`MAIL FROM:<a@b.test> ENVID=${'x'.repeat(100)}`, { ...plain, envid: 'x'.repeat(100) }],
];
for (const [line, command] of goodMail) {
  test(`read: ${line.slice(0, 70)}`, () => assert.deepEqual(mail(line), command));
}

const badMail: [line: string, reply: RegExp][] = [
  ['MAIL', /^501 5\.5\.4 /],
  ['MAIL FROM', /^501 5\.5\.4 /],
  ['MAIL FROM:', /^501 5\.5\.4 /],
  ['MAIL FROM:a@b.test', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test>SIZE=1', /^501 5\.5\.4 /],
  ['MAIL FROM:<a<b@c.test>', /^501 5\.5\.4 /],
  ['MAIL TO:<a@b.test>', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> =1', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> SIZE', /^501 5\.5\.4 .*SIZE/],
  ['MAIL FROM:<a@b.test> SIZE=', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> SIZE=-1', /^501 5\.5\.4 .*SIZE/],
  ['MAIL FROM:<a@b.test> SIZE=1e3', /^501 5\.5\.4 .*SIZE/],
  [`MAIL FROM:<a@b.test> SIZE=${'9'.repeat(21)}`, /^501 5\.5\.4 .*SIZE/],
  ['MAIL FROM:<a@b.test> SIZE=1 size=2', /^501 5\.5\.4 .*SIZE is there twice/],
  ['MAIL FROM:<a@b.test> SMTPUTF8=1', /^501 5\.5\.4 .*SMTPUTF8/],
  ['MAIL FROM:<a@b.test> REQUIRETLS=yes', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> RET=BODY', /^501 5\.5\.4 .*RET/],
  ['MAIL FROM:<a@b.test> ENVID', /^501 5\.5\.4 .*ENVID/],
  [`MAIL FROM:<a@b.test> ENVID=${'x'.repeat(101)}`, /^501 5\.5\.4 .*ENVID/],
  ['MAIL FROM:<a@b.test> ENVID=a+0D+0Ab', /^501 5\.5\.4 .*ENVID/],
  ['MAIL FROM:<a@b.test> ENVID=a+4', /^501 5\.5\.4 .*ENVID/],
  ['MAIL FROM:<a@b.test> ENVID=a+e9', /^501 5\.5\.4 .*ENVID/],
  ['MAIL FROM:<a@b.test> ENVID=a=b', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> AUTH=', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> AUTH=nonsense', /^501 5\.5\.4 .*AUTH/],
  ['MAIL FROM:<a@b.test> AUTH=a@b.test+0D', /^501 5\.5\.4 .*AUTH/],
  ['MAIL FROM:<jané@b.test>', /^501 5\.5\.4 .*SMTPUTF8/],
  ['MAIL FROM:<a\u0001@b.test>', /^501 5\.5\.4 .*control/],
  ['MAIL FROM:<a@b.test> BODY=BINARYMIME', /^555 5\.5\.4 .*BINARYMIME/],
  ['MAIL FROM:<a@b.test> MT-PRIORITY=3', /^555 5\.5\.4 .*MT-PRIORITY/],
  ['MAIL FROM:<a@b.test> HOLDFOR=60', /^555 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> BY=60;R', /^555 5\.5\.4 /],
  ['MAIL FROM:<a@b.test> NOTIFY=NEVER', /^555 5\.5\.4 .*NOTIFY/],
];
for (const [line, reply] of badMail)
  test(`refused: ${line.slice(0, 70)}`, () => assertRefused(mail(line), reply));

const to = { kind: 'rcpt', address: 'a@b.test' };
const goodRcpt: [line: string, command: object, smtpUtf8?: boolean][] = [
  ['RCPT TO:<a@b.test>', to],
  ['rcpt to: <a@b.test> NOTIFY=NEVER', { ...to, notify: ['never'] }],
  ['RCPT TO:<a@b.test> NOTIFY=success,DELAY,FAILURE', { ...to, notify: ['success', 'delay', 'failure'] }],
  ['RCPT TO:<a@b.test> NOTIFY=SUCCESS,SUCCESS', { ...to, notify: ['success'] }],
  ['RCPT TO:<a@b.test> ORCPT=rfc822;Bob+2Bx@c.test', { ...to, orcpt: 'rfc822;Bob+x@c.test' }],
  ['RCPT TO:<a@b.test> ORCPT=utf-8;jané@c.test', { ...to, orcpt: 'utf-8;jané@c.test' }, true],
];
for (const [line, command, smtpUtf8] of goodRcpt) {
  test(`read: ${line}`, () => assert.deepEqual(rcpt(line, smtpUtf8), command));
}

const badRcpt: [line: string, reply: RegExp][] = [
  ['RCPT TO:<>', /^553 5\.1\.3 /],
  ['RCPT TO:a@b.test', /^501 5\.5\.4 /],
  ['RCPT TO:<a@b.test> NOTIFY', /^501 5\.5\.4 .*NOTIFY/],
  ['RCPT TO:<a@b.test> NOTIFY=NEVER,SUCCESS', /^501 5\.5\.4 .*NOTIFY/],
  ['RCPT TO:<a@b.test> NOTIFY=SUCCESS,', /^501 5\.5\.4 .*NOTIFY/],
  ['RCPT TO:<a@b.test> NOTIFY=ALWAYS', /^501 5\.5\.4 .*NOTIFY/],
  ['RCPT TO:<a@b.test> ORCPT=a@b.test', /^501 5\.5\.4 .*ORCPT/],
  ['RCPT TO:<a@b.test> ORCPT=rfc822;', /^501 5\.5\.4 .*ORCPT/],
  ['RCPT TO:<a@b.test> ORCPT=rfc822;a+0Ab@c.test', /^501 5\.5\.4 .*ORCPT/],
  ['RCPT TO:<a@b.test> ORCPT=rfc822;jané@c.test', /^501 5\.5\.4 .*ORCPT/],
  [`RCPT TO:<a@b.test> ORCPT=rfc822;${'x'.repeat(494)}`, /^501 5\.5\.4 .*ORCPT/],
  ['RCPT TO:<a@b.test> RRVS=2026-01-01T00:00:00Z', /^555 5\.5\.4 .*RRVS/],
  ['RCPT TO:<a@b.test> SIZE=1', /^555 5\.5\.4 .*SIZE/],
];
for (const [line, reply] of badRcpt)
  test(`refused: ${line.slice(0, 70)}`, () => assertRefused(rcpt(line), reply));

test('a command that is not UTF-8 is refused', () => {
  assertRefused(parseMail(Buffer.from('MAIL FROM:<a\xe9@b.test>', 'latin1')), /^501 5\.5\.4 .*UTF-8/);
});

function assertRefused(read: ReturnType<typeof mail> | ReturnType<typeof rcpt>, reply: RegExp): void {
  assert.ok(read.kind === 'malformed', JSON.stringify(read));
  assert.match(`${read.problem.entry.smtp.code} ${smtpText(read.problem)}`, reply);
}
