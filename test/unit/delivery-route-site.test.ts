import assert from 'node:assert/strict';
import { test } from 'node:test';
import { siteOfExchanger } from '../../node/delivery/route-site.ts';

const sites: [exchanger: string, site: string][] = [
  ['aspmx.l.google.com', 'google.com'],
  ['alt1.aspmx.l.google.com', 'google.com'],
  ['gmail-smtp-in.l.google.com', 'google.com'],
  ['aspmx2.googlemail.com', 'google.com'],
  ['smtp.google.com', 'google.com'],
  ['reef-example.mail.protection.outlook.com', 'outlook.com'],
  ['hotmail-com.olc.protection.outlook.com', 'outlook.com'],
  ['reef-example.p-v1.mx.microsoft', 'outlook.com'],
  ['mta5.am0.yahoodns.net', 'yahoo.com'],
  ['mx-aol.mail.gm0.yahoodns.net', 'yahoo.com'],
  ['mxa-00123401.gslb.pphosted.com', 'pphosted.com'],
  ['eu-smtp-inbound-1.mimecast.com', 'mimecast.com'],
  ['in1-smtp.messagingengine.com', 'fastmail.com'],
  ['mx01.mail.icloud.com', 'icloud.com'],
  ['mx1.reef.example', 'reef.example'],
  ['mx2.reef.example', 'reef.example'],
  ['mail.reef.example', 'reef.example'],
  ['MX-2.Mail.Reef.Example.', 'reef.example'],
  ['reef.example', 'reef.example'],
  ['mail.example', 'mail.example'],
  ['mx1.reef.co.uk', 'reef.co.uk'],
  ['mail.co.uk', 'mail.co.uk'],
  ['mailbox.reef.example', 'mailbox.reef.example'],
  ['vps-123.vps.hosting.example', 'vps-123.vps.hosting.example'],
  ['vps-124.vps.hosting.example', 'vps-124.vps.hosting.example'],
  ['notgoogle.com', 'notgoogle.com'],
  ['google.com.reef.example', 'google.com.reef.example'],
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8::1', '2001:db8::1'],
];

for (const [exchanger, site] of sites) {
  test(`${exchanger} is the site ${site}`, () => {
    assert.equal(siteOfExchanger(exchanger), site);
  });
}
