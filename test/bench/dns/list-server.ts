/**
 * Our list server as a process of its own: zone files, one answering thread, metrics, rate limit and cookies,
 * as a node puts it together.
 */
import { pino } from 'pino';
import { Access } from '../../../dnsbl/access/access.ts';
import { CookieSecrets } from '../../../dnsbl/access/cookie-secrets.ts';
import { type AccessSettings, defaultAccess } from '../../../dnsbl/access/settings.ts';
import { loadZone } from '../../../dnsbl/files/load-zone.ts';
import type { ZoneSource } from '../../../dnsbl/files/source.ts';
import { DnsServer } from '../../../dnsbl/server.ts';
import { Zone } from '../../../dnsbl/zone.ts';

export type ListServerOptions = {
  apex: string;
  sources: ZoneSource[];
  sockets: 'dgram' | 'native';
  /** Whether the rate limit counts what it will never reach. */
  isUnreachable: boolean;
};

/** The most that can be configured. */
const million = 1_000_000;
const unreachable: AccessSettings = {
  ...defaultAccess,
  limit: { ...defaultAccess.limit, perName: million, perClient: million, perClientErrors: million },
};

const { apex, sources, sockets, isUnreachable }: ListServerOptions = JSON.parse(process.argv[2]!);
const { table, head, notTakenCount } = await loadZone({ apex, sources });
if (notTakenCount > 0) throw new Error(`${notTakenCount} lines of the zone files were not taken`);
const zone = new Zone({
  ...{ apex, nameservers: head.nameservers ?? [], hostmaster: head.hostmaster ?? '', now: Date.now },
  ...{ ttlSeconds: head.ttl, negativeTtlSeconds: head.negativeTtl },
});
zone.adopt(table);
const access = new Access({
  settings: isUnreachable ? unreachable : defaultAccess,
  cookieSecrets: new CookieSecrets(),
});
const server = new DnsServer({
  ...{ zones: [zone], listen: { host: '127.0.0.1', port: 0 }, workers: 1, sockets, access },
  log: pino({ level: 'warn' }),
});
const [bound] = await server.start();
process.send!(bound!.port);
process.on('message', () => process.send!([...server.counts()]));
process.on('SIGTERM', () => void server.stop().then(() => process.exit(0)));
