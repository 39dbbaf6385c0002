/**
 * What the DNS world says at the start: the inbox, the cooperatives, and what members were told to publish.
 */
import type { DnsRecord } from '../../node/members/members.ts';
import type { CooperativeCast } from './cast.ts';
import { parseMx, type RecordSet, type Zone } from './zone.ts';

/**
 * Mail for any name below .test comes to the inbox; a name below a domain that exists, such as
 * nowhere.inbox.test, does not exist, and mail to it bounces.
 */
export const inboxRecords: RecordSet[] = [
  { name: '*.test', type: 'MX', values: ['10 mx.inbox.test'] },
  { name: 'inbox.test', type: 'MX', values: ['10 mx.inbox.test'] },
  { name: 'mx.inbox.test', type: 'A', values: ['127.0.0.1'] },
];

/** @param dkim the record of the pool's key */
export function cooperativeRecords({ domain }: CooperativeCast, dkim: DnsRecord): RecordSet[] {
  return [
    { name: domain, type: 'A', values: ['127.0.0.1'] },
    { name: domain, type: 'MX', values: [`10 ${domain}`] },
    { name: domain, type: 'TXT', values: ['v=spf1 ip4:127.0.0.1 -all'] },
    { name: `_dmarc.${domain}`, type: 'TXT', values: ['v=DMARC1; p=reject'] },
    { name: `ns1.${domain}`, type: 'A', values: ['127.0.0.1'] },
    ...setsOf([dkim]),
  ];
}

/** Records of one name and type become one set. */
export function setsOf(records: DnsRecord[]): RecordSet[] {
  const grouped = Map.groupBy(records, ({ name, type }) => `${type} ${name}`);
  return [...grouped.values()].map((group) => ({
    name: group[0]!.name,
    type: group[0]!.type,
    values: group.map(({ value }) => value),
  }));
}

/** Puts the sets in, and gives every mail host without an address that of this machine. */
export function publish(zone: Zone, sets: RecordSet[]): void {
  for (const { name, type, values } of sets) zone.set(name, type, values);
  for (const { type, values } of sets) {
    if (type !== 'MX') continue;
    for (const { exchange } of values.map(parseMx)) {
      if (exchange && zone.lookup(exchange, 'A').kind !== 'found') zone.set(exchange, 'A', ['127.0.0.1']);
    }
  }
}

/** The selectors under which the zone has DKIM keys of a domain. */
export function selectorsIn(zone: Zone, domain: string): string[] {
  const ending = `._domainkey.${domain}`;
  const names = zone.all().map(({ name }) => name);
  return names.filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length));
}
