/**
 * A list server in a process of its own that changes single entries while it answers: what a feed or a node does,
 * without the network in between. Each change is a call of Zone.apply in the owner's thread.
 *
 * Some changes are looked for by a query over UDP as soon as they are made, again and again until the answer
 * says it: how long that took at most is in the report.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, encode } from 'dns-packet';
import { pino } from 'pino';
import { loadZone } from '../../../dnsbl/files/load-zone.ts';
import type { Listing } from '../../../dnsbl/listing.ts';
import { DnsServer } from '../../../dnsbl/server.ts';
import { Zone } from '../../../dnsbl/zone.ts';
import { addressOf, apex, type DataFiles, didOf, nameOf } from './data.ts';

export type UpdateOrder = { seconds: number; perSecond: number };
export type UpdateReport = {
  applied: number;
  seen: number;
  /** From before apply() to the answer that shows it. */
  worstVisibleMs: number;
  medianVisibleMs: number;
  /** What apply() itself took. */
  worstApplyMs: number;
  entries: number;
};

const lookEvery = 25;

const { dom, ip, entries }: DataFiles & { entries: number } = JSON.parse(process.argv[2]!);
const { table } = await loadZone({
  apex,
  sources: [
    { subtree: 'dom', form: 'dnset', file: dom },
    { subtree: 'ip', form: 'ip4set', file: ip },
  ],
});
const zone = new Zone({ apex, nameservers: ['ns1.test'], hostmaster: 'hostmaster.test', now: Date.now });
zone.adopt(table);
const server = new DnsServer({
  ...{ zones: [zone], listen: { host: '127.0.0.1', port: 0 }, workers: 1 },
  log: pino({ level: 'warn' }),
});
const [bound] = await server.start();
const socket = createSocket('udp4');
socket.connect(bound!.port, '127.0.0.1');
await once(socket, 'connect');
process.send!(bound!.port);
process.on('message', (order: UpdateOrder) => void update(order).then((report) => process.send!(report)));
process.on('SIGTERM', () => void server.stop().then(() => process.exit(0)));

async function update({ seconds, perSecond }: UpdateOrder): Promise<UpdateReport> {
  const began = performance.now();
  const visible: number[] = [];
  const looks: Promise<void>[] = [];
  let worstApplyMs = 0;
  let applied = 0;
  while (applied < seconds * perSecond) {
    const due = Math.floor(((performance.now() - began) / 1000) * perSecond);
    for (; applied < due && applied < seconds * perSecond; applied++) {
      const listing = changed(applied);
      const before = performance.now();
      if (zone.apply(listing) !== 'changed') throw new Error(`${JSON.stringify(listing)} changed nothing`);
      worstApplyMs = Math.max(worstApplyMs, performance.now() - before);
      if (applied % lookEvery === 0)
        looks.push(look(listing).then(() => void visible.push(performance.now() - before)));
    }
    await sleep(1);
  }
  await Promise.all(looks);
  visible.sort((a, b) => a - b);
  return {
    applied,
    seen: visible.length,
    worstVisibleMs: visible.at(-1)!,
    medianVisibleMs: visible[visible.length >> 1]!,
    worstApplyMs,
    entries: zone.size,
  };
}

/** In turn: another text for a listed name, a new name, a listed address that goes, a new address. */
function changed(number: number): Listing {
  const half = entries / 2;
  const known = (number * 7919) % half;
  const fresh = half + number;
  const did = `did:plc:${didOf(number, 99)}`;
  if (number % 4 === 0) return listing({ name: nameOf(known) }, did);
  if (number % 4 === 1) return listing({ name: `new-${nameOf(fresh)}` }, did);
  if (number % 4 === 2) return listing({ address: addressOf(known) }, did, true);
  return listing({ address: addressOf(fresh) }, did);
}

function listing(what: { name: string } | { address: string }, did: string, removed = false): Listing {
  const key = 'name' in what ? what.name : what.address;
  return {
    ...what,
    ...{ list: 'vouched', kind: 3, trust: 2, mailTypes: [], coverSubdomains: false, seq: 1, did },
    vouchers: ['did:web:harbor.test', 'did:web:meadow.test'],
    url: `https://harbor.test/listing/${key}`,
    ...(removed && { removed }),
  };
}

let lastId = 0;
const waiting = new Map<number, (message: Buffer) => void>();
socket.on('message', (message) => waiting.get(message.readUInt16BE(0))?.(message));

async function look({ name, address, did, removed }: Listing): Promise<void> {
  const owner = name === undefined ? `${address!.split('.').reverse().join('.')}.ip` : `${name}.dom`;
  for (;;) {
    lastId = (lastId + 1) % 65_536;
    const id = lastId;
    const answered = new Promise<Buffer | undefined>((resolve) => waiting.set(id, resolve));
    socket.send(encode({ type: 'query', id, questions: [{ name: `${owner}.${apex}`, type: 'TXT' }] }));
    const message = await Promise.race([answered, sleep(1000, undefined)]);
    waiting.delete(id);
    if (message === undefined) continue;
    const [answer] = decode(message).answers ?? [];
    const text = answer?.type === 'TXT' ? [answer.data].flat().map(String).join('') : '';
    if (removed ? text === '' : text.includes(did)) return;
  }
}
