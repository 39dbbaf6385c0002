/**
 * Who sends in the tests of consumers: who is listed, who is not, who is blocked, and what DNS says of each.
 *
 * `reef.test` and `lagoon.test` send through a cooperative's relay, `atoll.test` by itself, nobody knows `stranger.test`,
 * and `sunk.test` is suspended in public.
 */
import { generateKeyPairSync } from 'node:crypto';
import { dkimSign } from 'mailauth/lib/dkim/sign.js';
import { pino } from 'pino';
import type { Listing } from '../../../dnsbl/listing.ts';
import { DnsServer } from '../../../dnsbl/server.ts';
import type { Zone } from '../../../dnsbl/zone.ts';
import { emptyZone, vouched } from '../../unit/dnsbl-fixtures.ts';
import { snippetApex } from './snippets.ts';
import { type Resolver, startUnbound } from './unbound.ts';

export const addresses = {
  /** A cooperative's relay. */
  relay: '192.0.2.25',
  relay6: '2001:db8::25',
  /** Another's, declared this week: trust 0. */
  newRelay: '192.0.2.26',
  /** Of atoll.test: its reverse name is forward-confirmed, its SPF has it. */
  atoll: '198.51.100.4',
  stranger: '203.0.113.66',
  stranger6: '2001:db8:bad::66',
  /** Its reverse name claims atoll.test, which knows nothing of it. */
  liar: '203.0.113.67',
  blocked: '203.0.113.13',
  /** A relay that is both vouched for and suspended. */
  fallen: '192.0.2.27',
};

export const listings: Listing[] = [
  vouched({ name: 'reef.test' }, { kind: 3, trust: 2 }),
  vouched({ name: 'lagoon.test' }, { kind: 3, trust: 2 }),
  vouched({ name: 'atoll.test' }, { kind: 4, trust: 1, coverSubdomains: true }),
  vouched({ address: addresses.relay }, { kind: 2, trust: 2 }),
  vouched({ address: addresses.relay6 }, { kind: 2, trust: 2 }),
  vouched({ address: addresses.newRelay }, { kind: 2, trust: 0 }),
  vouched({ address: addresses.fallen }, { kind: 2, trust: 2 }),
  vouched({ address: addresses.fallen }, { list: 'blocked', reason: 'spam' }),
  vouched({ name: 'sunk.test' }, { list: 'blocked', reason: 'spam' }),
  vouched({ address: addresses.blocked }, { list: 'blocked', reason: 'spam' }),
];

const signers = ['reef.test', 'lagoon.test', 'news.atoll.test', 'stranger.test', 'sunk.test'];
const keys = new Map(signers.map((name) => [name, newKey()]));

function newKey(): { pem: string; record: string } {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const spki = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  return {
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    record: `v=DKIM1; k=rsa; p=${spki}`,
  };
}

/** What others than us say in this world's DNS. */
const records = [
  'atoll.test. TXT "v=spf1 ip4:198.51.100.4 -all"',
  'atoll.test. MX 10 mail.atoll.test.',
  'mail.atoll.test. A 198.51.100.4',
  '4.100.51.198.in-addr.arpa. PTR mail.atoll.test.',
  '67.113.0.203.in-addr.arpa. PTR mail.atoll.test.',
  // No SPF for reef.test: a MAIL FROM of it is "none", not "fail".
  'reef.test. MX 10 mx.reef.test.',
  'mx.reef.test. A 192.0.2.200',
  'stranger.test. TXT "v=spf1 ip4:203.0.113.66 -all"',
  'stranger.test. MX 10 mail.stranger.test.',
  'mail.stranger.test. A 203.0.113.66',
  '66.113.0.203.in-addr.arpa. PTR mail.stranger.test.',
  'sunk.test. MX 10 mail.sunk.test.',
  'mail.sunk.test. A 203.0.113.14',
  // Another list of addresses, which has both relays.
  '25.2.0.192.zen.spamhaus.org. A 127.0.0.2',
  '26.2.0.192.zen.spamhaus.org. A 127.0.0.2',
  ...[...keys].map(([name, { record }]) => `k._domainkey.${name}. TXT ${quoted(record)}`),
];

function quoted(text: string): string {
  return text
    .match(/.{1,250}/g)!
    .map((part) => `"${part}"`)
    .join(' ');
}

export type World = {
  resolver: Resolver;
  /** From now on, every question about the list is REFUSED, as to a client that asks too much. */
  refuse(): Promise<void>;
  close(): Promise<void>;
};

/** Our server with the listings, and unbound in front of it. */
export async function openWorld(): Promise<World> {
  const zone = emptyZone({ apex: snippetApex, nameservers: ['ns1.example.net'], now: Date.now });
  for (const listing of listings) zone.apply(listing);
  let server = serverOf(zone);
  const [address] = await server.start();
  const resolver = await startUnbound({ zone: snippetApex, server: address!, records });
  return {
    resolver,
    refuse: async () => {
      await server.stop();
      server = serverOf(emptyZone(), address!.port);
      await server.start();
      await resolver.forget(snippetApex);
    },
    close: async () => {
      await resolver.stop();
      await server.stop();
    },
  };
}

function serverOf(zone: Zone, port = 0): DnsServer {
  const log = pino({ enabled: false });
  return new DnsServer({ zones: [zone], listen: { host: '127.0.0.1', port }, log });
}

/** @param signedBy the domains whose DKIM signatures it carries, all valid */
export async function message(o: { from: string; subject?: string; signedBy?: string[] }): Promise<Buffer> {
  const raw = [
    `From: Someone <${o.from}>`,
    'To: b@dest.test',
    `Subject: ${o.subject ?? 'your code'}`,
    `Date: ${new Date().toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: <${Math.random().toString(36).slice(2)}@${o.from.split('@')[1]}>`,
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    '',
    'The code that you asked for is 1234. It is good for ten minutes, and for one login only.',
    '',
  ].join('\r\n');
  const signatureData = (o.signedBy ?? []).map((name) => ({
    signingDomain: name,
    selector: 'k',
    privateKey: keys.get(name)!.pem,
  }));
  if (signatureData.length === 0) return Buffer.from(raw);
  const { signatures, errors } = await dkimSign(raw, {
    ...signatureData[0]!,
    canonicalization: 'relaxed/relaxed',
    algorithm: 'rsa-sha256',
    signTime: new Date(),
    signatureData,
  });
  if (errors.length > 0) throw new Error(JSON.stringify(errors));
  return Buffer.from(signatures + raw);
}
