/**
 * The configuration of `atmos dns` alone: where a command line is too short, as for several zones.
 *
 * The keys are those of a node, but `dns.zones` holds any number of zones, each with its source.
 */
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { feedUrl } from '../../dnsbl/feed/feed-url.ts';
import { parseSource, type ZoneSource } from '../../dnsbl/files/source.ts';
import { type Contradiction, checkFile, hasKey, readText } from '../config-file.ts';
import { hinted, hostPort } from '../config-values.ts';
import type { AloneSettings } from './alone.ts';
import { aloneZoneSchema, dnsListen, serverShape } from './schema.ts';
import { dnsContradictions, withPaths } from './settings.ts';
import type { SourcedZoneSettings } from './zone-source.ts';

const MAX_ZONES = 64;

const schema = z.strictObject({
  listen: z.strictObject({
    dns: dnsListen(),
    metrics: hinted(hostPort(), 'Prometheus; off when left out', '"127.0.0.1:9464"').optional(),
  }),
  stateDir: hinted(z.string().min(1), 'the folder of last states, serials and journals', '"./state"').default(
    './state',
  ),
  dns: z.strictObject({
    ...serverShape,
    zones: hinted(
      z.array(aloneZoneSchema).min(1).max(MAX_ZONES),
      'the zones that are answered',
      '[{ "apex": "list.example", "from": "https://harbor.example" }]',
    ),
  }),
});

type Written = z.output<typeof schema>;
type WrittenZone = Written['dns']['zones'][number];

/** @throws ConfigError naming every fault at once */
export function readAloneConfig(path: string): AloneSettings {
  const file = resolve(path);
  return checkAloneConfig(readText(file), file);
}

/** @param file absolute path, for messages and relative paths; it is not read. @throws ConfigError */
export function checkAloneConfig(text: string, file: string): AloneSettings {
  const { data, refuse } = checkFile(schema, text, file);
  refuse(contradictions(data));
  const folder = dirname(file);
  const { zones, ...server } = data.dns;
  return {
    ...{ listen: data.listen.dns, metrics: data.listen.metrics, stateDir: resolve(folder, data.stateDir) },
    server: withPaths(server, (name) => resolve(folder, name)),
    zones: zones.map((zone) => sourcedZone(zone, folder)),
  };
}

/** @returns whether the text is a configuration of `atmos dns` alone, and not a node's. @throws ConfigError */
export function isAloneConfig(text: string, file: string): boolean {
  return hasKey(text, file, ['dns', 'zones']);
}

function contradictions({ dns: { zones, ...server } }: Written): Contradiction[] {
  const placeOf = (index: number) => ['dns', 'zones', index];
  const found = dnsContradictions(['dns'], server, zones, placeOf);
  for (const [index, { apex, files, from, insecure }] of zones.entries()) {
    const place = placeOf(index);
    if ((files === undefined) === (from === undefined))
      found.push([place, `${apex}: give "files", or "from"`, 'One of the two fills the zone.']);
    if (zones.findIndex((other) => other.apex === apex) < index)
      found.push([[...place, 'apex'], `${apex} is named twice`, 'Keep one of the two.']);
    const unreachable = from === undefined ? undefined : faultOf(() => feedUrl(from, 0, insecure));
    if (unreachable) found.push([[...place, 'from'], unreachable, 'Give its base URL, with https.']);
    for (const [at, text] of (files ?? []).entries()) {
      const fault = faultOf(() => parseSource(text));
      if (fault) found.push([[...place, 'files', at], fault, 'Forms: dnset, ip4set, ip6trie.']);
    }
  }
  return found;
}

function faultOf(read: () => unknown): string | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function sourcedZone(zone: WrittenZone, folder: string): SourcedZoneSettings {
  const { files, from, insecure, poll: pollMs } = zone;
  const { nameservers, hostmaster, ttlSeconds, negativeTtlSeconds } = zone;
  const { apex, unkeyed, unkeyedQuota, keys, transfer } = zone;
  return {
    ...{ apex, unkeyed, unkeyedQuota, keys, transfer },
    source:
      from === undefined
        ? { files: (files ?? []).map((text) => sourceIn(folder, text)), pollMs }
        : { from, insecure },
    head: { nameservers, hostmaster, ttlSeconds, negativeTtlSeconds },
  };
}

function sourceIn(folder: string, text: string): ZoneSource {
  const source = parseSource(text);
  return { ...source, file: source.file.startsWith('/') ? source.file : join(folder, source.file) };
}
