/** Python's email package, which knows nothing of ours, reads our DSNs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { composeDsn } from '../../node/delivery/dsn.ts';
import { needs } from '../peers.ts';
import { failureReport } from '../unit/delivery-fixtures.ts';

const program = `
import email, email.policy, json, sys
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
def defects(part):
    return [type(d).__name__ for p in part.walk() for d in p.defects]
explanation, status, returned = message.get_payload()
print(json.dumps({
  'type': message.get_content_type(),
  'report': message.get_content_type() and message.get_param('report-type'),
  'from': message['From'], 'to': message['To'], 'subject': message['Subject'],
  'parts': [p.get_content_type() for p in message.get_payload()],
  'groups': [dict(g.items()) for g in status.get_payload()],
  'explanation': explanation.get_content(),
  'returned': returned.get_payload(decode=True).decode('utf-8'),
  'defects': defects(message),
}))
`;

test('Python reads a DSN as multipart/report with both status groups', {
  skip: needs('python3'),
}, async () => {
  const original = 'From: Reef <a@reef.test>\r\nMessage-ID: <1@reef.test>\r\nSubject: Grüße\r\n';
  const dsn = await composeDsn({ ...failureReport, original: Buffer.from(`${original}\r\nHi\r\n`) });
  const run = spawnSync('/usr/bin/python3', ['-c', program], { input: dsn, encoding: 'utf8' });
  assert.equal(run.status, 0, run.stderr);
  const read = JSON.parse(run.stdout);
  assert.deepEqual(read.defects, []);
  assert.deepEqual([read.type, read.report], ['multipart/report', 'delivery-status']);
  assert.deepEqual(read.parts, ['text/plain', 'message/delivery-status', 'text/rfc822-headers']);
  assert.equal(read.subject, 'Not delivered: mail to ann@dest.test');
  assert.deepEqual(
    [read.from, read.to],
    ['Mail Delivery <mailer-daemon@harbor.test>', 'owner@elsewhere.test'],
  );
  const [message, recipient] = read.groups;
  assert.equal(message['Reporting-MTA'], 'dns; harbor.test');
  assert.equal(message['Arrival-Date'], 'Fri, 20 Nov 2026 09:00:00 +0000');
  assert.equal(recipient['Final-Recipient'], 'rfc822; ann@dest.test');
  assert.deepEqual([recipient.Action, recipient.Status], ['failed', '5.1.1']);
  assert.equal(
    recipient['Diagnostic-Code'].replace(/\r?\n/g, ''),
    'smtp; 550-5.1.1 The account that you tried to reach 550 5.1.1 does not exist',
  );
  assert.match(read.explanation, /could not be delivered/);
  assert.equal(read.returned.replace(/\r\n/g, '\n').trim(), original.replace(/\r\n/g, '\n').trim());
});
