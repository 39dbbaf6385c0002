/**
 * One zone into files, all of the same serial, while it goes on changing.
 *
 * In the zone's own thread, a few milliseconds at a time, with a bounded memory; answering threads do not
 * notice. Nothing appears under its name before everything is on disk.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import { recordsOf } from '../difference.ts';
import { testPoints } from '../entries.ts';
import type { Listing } from '../listing.ts';
import { hostKey, MAX_KEY_LENGTH } from '../name.ts';
import { nsRecords } from '../records.ts';
import { type Zone, ZoneMoved } from '../zone.ts';
import { zoneTimers } from '../zone-reader.ts';
import { AtomicFile, syncFolder } from './atomic-file.ts';
import { masterHead, masterLines, nameText } from './bind-form.ts';
import { type FormHead, headOf, linesOf, rbldnsdFiles } from './rbldnsd-form.ts';

export const exportFormats = ['rbldnsd', 'bind'] as const;
export type ExportFormat = (typeof exportFormats)[number];

export type ExportOptions = {
  /** Must be there. */
  folder: string;
  formats: readonly ExportFormat[];
  signal?: AbortSignal;
};

export type Exported = {
  serial: number;
  entries: number;
  /** Names in the folder, and the SHA-256 of what they hold, in hex. */
  files: { name: string; sha256: string }[];
  /** Entries whose text cannot stand on one line of rbldnsd's. */
  leftOut: number;
  tookMs: number;
};

/** When more changes meanwhile than may be remembered, the export begins anew, so often. */
const MAX_TRIES = 3;
const SLICE_MS = 4;
const ENTRIES_PER_LOOK = 64;

/** @throws what the disk says, ZoneMoved after three tries, or the signal's reason; nothing is changed then */
export async function exportZone(zone: Zone, options: ExportOptions): Promise<Exported> {
  for (let tries = 1; ; tries++) {
    try {
      return await once(zone, options);
    } catch (error) {
      if (!(error instanceof ZoneMoved) || tries === MAX_TRIES) throw error;
    }
  }
}

async function once(zone: Zone, { folder, formats, signal }: ExportOptions): Promise<Exported> {
  const began = performance.now();
  const listings = zone.listings();
  const { serial } = listings;
  const head = formHead(zone, serial);
  const writers: Record<ExportFormat, (head: FormHead) => FormWriter> = {
    rbldnsd: rbldnsdWriter,
    bind: bindWriter,
  };
  const forms = formats.map((format) => writers[format](head));
  const files = new Map<string, AtomicFile>();
  let entries = 0;
  let leftOut = 0;
  try {
    for (const [name, text] of forms.flatMap(({ heads }) => heads)) {
      const file = await AtomicFile.open(folder, name);
      files.set(name, file);
      file.add(text);
    }
    let pauseAt = performance.now() + SLICE_MS;
    for (const listing of listings) {
      entries += 1;
      for (const form of forms) {
        const lines = form.lines(listing);
        leftOut += Number(lines.length === 0);
        for (const [name, text] of lines) {
          const file = files.get(name)!;
          if (file.add(text)) await file.drain();
        }
      }
      if (entries % ENTRIES_PER_LOOK !== 0 || performance.now() < pauseAt) continue;
      await breathe();
      signal?.throwIfAborted();
      pauseAt = performance.now() + SLICE_MS;
    }
    const made = await commit(folder, files);
    return { serial, entries, files: made, leftOut, tookMs: Math.round(performance.now() - began) };
  } catch (error) {
    for (const file of files.values()) await file.abandon();
    throw error;
  } finally {
    listings.close();
  }
}

async function commit(folder: string, files: Map<string, AtomicFile>): Promise<Exported['files']> {
  const made: Exported['files'] = [];
  for (const [name, file] of files) made.push({ name, sha256: await file.close() });
  for (const file of files.values()) await file.commit();
  await syncFolder(folder);
  return made;
}

type FormWriter = {
  /** Each file's name and first lines. */
  heads: [name: string, text: string][];
  /** None when the listing cannot be written in this form. */
  lines: (listing: Listing) => [name: string, text: string][];
};

function rbldnsdWriter(head: FormHead): FormWriter {
  const files = rbldnsdFiles();
  const nameOf = (ending: string) => `${head.apex}.${ending}`;
  return {
    heads: [...files].map(([ending, file]) => [nameOf(ending), headOf(file, head)]),
    lines: (listing) => linesOf(listing, files).map(([ending, line]) => [nameOf(ending), line]),
  };
}

function bindWriter(head: FormHead): FormWriter {
  const name = `${head.apex}.zone`;
  const apexOctets = hostKey(head.apex)!.length;
  const fixed = [
    {
      owner: '',
      set: nsRecords(
        head.nameservers.map((server) => hostKey(server)!),
        head.ttl,
      ),
    },
    ...testPoints(head.ttl)
      .filter(({ owner }) => owner.length + apexOctets <= MAX_KEY_LENGTH)
      .flatMap(({ owner, records }) => records.map((set) => ({ owner, set }))),
  ];
  return {
    heads: [[name, masterHead(head) + fixed.map(masterLines).join('')]],
    lines: (listing) => [[name, recordsOf(listing, apexOctets, head.ttl).map(masterLines).join('')]],
  };
}

function formHead(zone: Zone, serial: number): FormHead {
  const { apex, nameservers, hostmaster, ttl, negativeTtl } = zone.share();
  const { refresh, retry, expire } = zoneTimers;
  return {
    ...{ apex, ttl, serial, nameservers: nameservers.map(nameText), hostmaster: nameText(hostmaster) },
    times: [refresh, retry, expire, negativeTtl],
  };
}
