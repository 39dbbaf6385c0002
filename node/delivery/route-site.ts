/**
 * The name under which domains share one budget: that of the machines that take their mail.
 *
 * The rule, applied to the name of an exchanger: one of the large providers below, if the name ends so;
 * else the name without the leading labels that only say which machine it is (`mx1.`, `mail.`, `in2-smtp.`),
 * as long as two labels stay. So `mx1.reef.example` and `mx2.reef.example` are `reef.example`, but two
 * customers of one hosting company, each under a machine name of its own, stay apart: an unknown name
 * merges with nothing, since one site that is slow holds up all who share its name.
 */
import { isIP } from 'node:net';

/** Endings of exchangers, and the site that they are. */
const providers: readonly [ending: string, site: string][] = [
  ['google.com', 'google.com'],
  ['googlemail.com', 'google.com'],
  ['outlook.com', 'outlook.com'],
  ['mx.microsoft', 'outlook.com'],
  ['hotmail.com', 'outlook.com'],
  ['yahoodns.net', 'yahoo.com'],
  ['icloud.com', 'icloud.com'],
  ['messagingengine.com', 'fastmail.com'],
  ['protonmail.ch', 'proton.me'],
  ['pphosted.com', 'pphosted.com'],
  ['ppe-hosted.com', 'pphosted.com'],
  ['mimecast.com', 'mimecast.com'],
  ['mimecast.co.za', 'mimecast.com'],
  ['barracudanetworks.com', 'barracudanetworks.com'],
  ['messagelabs.com', 'messagelabs.com'],
  ['iphmx.com', 'iphmx.com'],
  ['trendmicro.com', 'trendmicro.com'],
  ['trendmicro.eu', 'trendmicro.com'],
  ['zoho.com', 'zoho.com'],
  ['zoho.eu', 'zoho.com'],
  ['secureserver.net', 'secureserver.net'],
  ['emailsrvr.com', 'emailsrvr.com'],
  ['mxrouting.net', 'mxrouting.net'],
  ['migadu.com', 'migadu.com'],
  ['mailgun.org', 'mailgun.org'],
  ['gmx.net', 'gmx.net'],
  ['web.de', 'gmx.net'],
  ['qq.com', 'qq.com'],
  ['yandex.net', 'yandex.net'],
  ['yandex.ru', 'yandex.net'],
  ['mail.ru', 'mail.ru'],
];

const bySite = new Map(providers);

/** A label that names a machine or its job, with its number. */
const machine =
  /^(?:(?:mx|mxa|mxb|mxs|mail|email|smtp|esmtp|mta|in|inbound|incoming|relay|gw|gateway|alt|aspmx|post|primary|secondary|backup|[a-d])(?:-?\d+)?-?)+$/;

/** Second labels under a country's that are not anybody's own: `co.uk`. */
const shared = /^(?:com?|net?|org?|gov|edu|ac|gob|nom|asso)\.[a-z]{2}$/;

/** @param exchanger a host name in A-labels, or an address */
export function siteOfExchanger(exchanger: string): string {
  const name = exchanger.toLowerCase().replace(/\.$/, '');
  if (isIP(name)) return name;
  const labels = name.split('.');
  for (let i = 0; i < labels.length; i++) {
    const site = bySite.get(labels.slice(i).join('.'));
    if (site) return site;
  }
  return withoutMachine(labels);
}

function withoutMachine(labels: string[]): string {
  const name = labels.join('.');
  const [first = '', ...above] = labels;
  if (above.length < 2 || shared.test(above.join('.')) || !machine.test(first)) return name;
  return withoutMachine(above);
}
