/** Records as lines of a master file (RFC 1035 §5), for BIND, NSD, Knot and ldns. */
import type { OwnedRecords } from '../difference.ts';
import type { NameKey } from '../name.ts';
import { TYPE } from '../records.ts';
import type { FormHead } from './rbldnsd-form.ts';

export function masterHead({ apex, ttl, nameservers, hostmaster, serial, times }: FormHead): string {
  const soa = `${nameservers[0]}. ${hostmaster}. ${serial} ${times.join(' ')}`;
  return `; ${apex}, serial ${serial}\n$ORIGIN ${apex}.\n$TTL ${ttl}\n@ IN SOA ${soa}\n`;
}

/** A, TXT and NS, as a zone has them. */
export function masterLines({ owner, set }: OwnedRecords): string {
  const name = owner === '' ? '@' : nameText(owner);
  return set.rdatas.map((rdata) => `${name} ${set.ttl} IN ${rdataText(set.type, rdata)}\n`).join('');
}

function rdataText(type: number, rdata: Buffer): string {
  if (type === TYPE.A) return `A ${rdata.join('.')}`;
  if (type === TYPE.NS) return `NS ${nameText(rdata.toString('latin1', 0, rdata.length - 1))}.`;
  const strings: string[] = [];
  for (let at = 0; at < rdata.length; at += 1 + rdata[at]!) {
    strings.push(quoted(rdata.subarray(at + 1, at + 1 + rdata[at]!)));
  }
  return `TXT ${strings.join(' ')}`;
}

/** Host names, `*` and `_vouch` are all that a zone has, and none of their letters needs an escape. */
export function nameText(key: NameKey): string {
  let text = '';
  for (let at = 0; at < key.length; at += 1 + key.charCodeAt(at)) {
    text += `${at === 0 ? '' : '.'}${key.slice(at + 1, at + 1 + key.charCodeAt(at))}`;
  }
  return text;
}

function quoted(octets: Buffer): string {
  const text = octets.toString('latin1').replaceAll(/["\\]|[^ -~]/g, (letter) => {
    if (letter === '"' || letter === '\\') return `\\${letter}`;
    return `\\${String(letter.charCodeAt(0)).padStart(3, '0')}`;
  });
  return `"${text}"`;
}
