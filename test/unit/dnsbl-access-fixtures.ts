/** One answering thread's access with a clock that the test moves, and clients from texts. */
import { Access, type AccessOptions } from '../../dnsbl/access/access.ts';
import { type ACCESS, accessEvents } from '../../dnsbl/access/access-counters.ts';
import { Clock } from '../../dnsbl/access/clock.ts';
import { type AccessSettings, defaultAccess } from '../../dnsbl/access/settings.ts';
import { ThreadAccess } from '../../dnsbl/access/thread-access.ts';
import { readAddress } from '../../dnsbl/client-address.ts';
import type { Client } from '../../dnsbl/seams.ts';
import { apex, startMs } from './dnsbl-fixtures.ts';

export type AccessEvent = keyof typeof ACCESS;

type Parts = { [Key in keyof AccessSettings]?: Partial<AccessSettings[Key]> };

/** The defaults, with what is given instead. */
export function settingsWith(
  parts: Omit<Parts, 'zones'> & Partial<Pick<AccessSettings, 'zones'>>,
): AccessSettings {
  return {
    limit: { ...defaultAccess.limit, ...parts.limit },
    rules: { ...defaultAccess.rules, ...parts.rules },
    quota: { ...defaultAccess.quota, ...parts.quota },
    zones: parts.zones ?? [],
  };
}

/** Several threads over one owner's memory; all see the same clock. */
export function accessWorld(options: Partial<AccessOptions> = {}, threads = 1) {
  let nowMs = startMs;
  const now = () => nowMs;
  const counted = new Map<string, number>();
  const count = (event: number) => {
    const name = accessEvents[event]!;
    counted.set(name, (counted.get(name) ?? 0) + 1);
  };
  const clocks: Clock[] = [];
  const access = new Access({ settings: defaultAccess, now, ...options });
  const all = Array.from({ length: threads }, () => {
    const clock = new Clock(now);
    clocks.push(clock);
    return new ThreadAccess({ share: access.share(), apexes: [apex], counters: { access: count }, clock });
  });
  access.follow((share) => {
    for (const thread of all) thread.replace(structuredClone(share));
  });
  return {
    access,
    threads: all,
    thread: all[0]!,
    counted: (event: AccessEvent) => counted.get(event) ?? 0,
    pass: (ms: number) => {
      nowMs += ms;
      for (const clock of clocks) clock.tick();
    },
  };
}

export function clientAt(address: string, port = 4096): Client {
  const family = address.includes(':') ? 6 : 4;
  const octets = new Uint8Array(family === 4 ? 4 : 16);
  readAddress(address, family, octets);
  return { family, address: octets, port };
}
