/**
 * One zone of `atmos dns` alone, and where it comes from: files, or an AppView's feed.
 *
 * Promise: with files it is whole when it is opened; with a feed when `ready` resolves, at once where an
 * earlier run left a state. What is kept of it lies in `<stateDir>/zones/`, by the name of its apex.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Feed } from '../../dnsbl/feed/feed.ts';
import { FeedState } from '../../dnsbl/feed/state.ts';
import type { ZoneHead, ZoneSource } from '../../dnsbl/files/source.ts';
import { FollowedFiles } from '../../dnsbl/files/zone-files.ts';
import { SerialFile } from '../../dnsbl/serial-file.ts';
import { Zone } from '../../dnsbl/zone.ts';
import type { Count } from '../metrics.ts';
import { type Stops, stopLimitMs } from '../stopping.ts';
import type { DnsStatus } from './control.ts';
import type { ZoneSettings } from './settings.ts';

export type SourcedZoneSettings = ZoneSettings & {
  source: { files: readonly ZoneSource[]; pollMs: number } | { from: string; insecure: boolean };
  /** What the files do not say, or say otherwise. */
  head: {
    nameservers?: string[] | undefined;
    hostmaster?: string | undefined;
    ttlSeconds?: number | undefined;
    negativeTtlSeconds?: number | undefined;
  };
};

export type SourcedZoneOptions = {
  settings: SourcedZoneSettings;
  /** Absolute. A feed needs it; with files it is for the serial. */
  stateDir: string | undefined;
  stops: Stops;
  /** Gives up the opening, and `ready`. */
  signal: AbortSignal;
  log: Logger;
  count: Count;
  now: () => number;
};

export type SourcedZone = {
  zone: Zone;
  settings: SourcedZoneSettings;
  /** Rejects when stopped before. */
  ready: Promise<void>;
  status: () => DnsStatus;
  /** @returns false when a file could not be read; a feed has nothing to be read again */
  reload: () => Promise<boolean>;
};

/** Behind it, the connection is closed already; before the phase ends, the disk has to answer. */
const LAST_SAVE_MS = stopLimitMs.work - 1_000;

/** Where nobody said better. RFC 6761 §6.3: a name of no other machine. */
const unnamed = { nameservers: ['localhost'], hostmaster: 'hostmaster.localhost' };

/** @throws Error for a file that cannot be read, or state that is damaged; and with what `signal` aborts */
export function openZone(options: SourcedZoneOptions): Promise<SourcedZone> {
  const { source } = options.settings;
  return 'from' in source ? fromFeed(options, source) : fromFiles(options, source);
}

async function fromFiles(
  options: SourcedZoneOptions,
  { files: sources, pollMs }: { files: readonly ZoneSource[]; pollMs: number },
): Promise<SourcedZone> {
  const { settings, stops, signal, log, count, now } = options;
  const files = new FollowedFiles({ apex: settings.apex, sources, pollMs, log, now, count });
  stops.work('zone files', () => files.stop());
  const loaded = await files.load(signal);
  const zone = emptyZone(options, loaded.head);
  zone.adopt(loaded.table);
  files.follow(zone);
  return {
    ...{ zone, settings, ready: Promise.resolve() },
    status: () => statusOf(zone, now() - files.modifiedMs),
    reload: () => files.reload(),
  };
}

async function fromFeed(
  options: SourcedZoneOptions,
  { from, insecure }: { from: string; insecure: boolean },
): Promise<SourcedZone> {
  const { settings, stateDir, stops, signal, log, count, now } = options;
  if (stateDir === undefined) throw new Error('a feed needs a folder for its last state: --state DIR');
  const zone = emptyZone(options, {});
  const state = new FeedState(join(zonesDir(stateDir), `${zone.apex}.feed`), from);
  const feed = new Feed({ from, insecure, zone, state, log, now, count, lastSaveMs: LAST_SAVE_MS });
  await feed.start(signal);
  stops.work('feed', () => feed.stop());
  return {
    ...{ zone, settings, ready: feed.ready },
    status: () => ({ ...statusOf(zone, feed.status().ageMs), feed: feed.status() }),
    reload: async () => true,
  };
}

function emptyZone({ settings, stateDir, log, now }: SourcedZoneOptions, head: ZoneHead): Zone {
  const { apex, head: given } = settings;
  const nameservers = given.nameservers ?? head.nameservers;
  if (!nameservers)
    log.warn({ apex, ns: unnamed.nameservers }, 'DNS zone: nobody named its name servers: --ns');
  const serials =
    stateDir === undefined
      ? undefined
      : new SerialFile(
          join(zonesDir(stateDir), `${apex}.serial`),
          (err) => log.error({ err }, 'DNS serial not kept'),
          now,
        );
  return new Zone({
    apex,
    nameservers: nameservers ?? unnamed.nameservers,
    hostmaster: given.hostmaster ?? head.hostmaster ?? unnamed.hostmaster,
    ttlSeconds: given.ttlSeconds ?? head.ttl,
    negativeTtlSeconds: given.negativeTtlSeconds ?? head.negativeTtl,
    // Behind what was served, whatever a file says by now: secondaries know it.
    serial: serials?.last || head.serial,
    onSerial: (serial) => serials?.keep(serial),
    now,
  });
}

function zonesDir(stateDir: string): string {
  const path = join(stateDir, 'zones');
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

function statusOf({ apex, size, serial }: Zone, ageMs: number | undefined): DnsStatus {
  const ageSeconds = ageMs === undefined ? undefined : Math.max(0, Math.round(ageMs / 1000));
  return { apex, entries: size, serial, ageSeconds };
}
