/**
 * The last state of a followed list, on disk: the zone in rbldnsd's files, and where the feed stood.
 *
 * Promise: a state is there whole or as it was. `feed.json` names the folder of its files with their
 * SHA-256, and is renamed into its place behind them; the folder before is removed then. What does not
 * hold together throws: a list that lost entries must not be answered from as if it had not.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeAtomically } from '../files/atomic-file.ts';
import { exportZone } from '../files/export.ts';
import { loadZone } from '../files/load-zone.ts';
import { type Loaded, parseSource } from '../files/source.ts';
import type { Zone } from '../zone.ts';

/** Where the feed stood. */
export type FeedPoint = {
  /** The seq of the last message that is in the zone. */
  cursor: number;
  /** Unix ms: when the zone was last known to be what the AppView had. */
  currentAtMs: number;
};

export type SavedFeed = FeedPoint & { loaded: Loaded };

type Manifest = FeedPoint & {
  version: 1;
  from: string;
  apex: string;
  entries: number;
  folder: string;
  files: { name: string; sha256: string }[];
};

const MANIFEST = 'feed.json';

export class FeedState {
  readonly #folder: string;
  readonly #from: string;
  #manifest: Manifest | undefined;

  /** @param folder is made where it is not. @param from the AppView's base URL: a state belongs to one */
  constructor(folder: string, from: string) {
    this.#folder = folder;
    this.#from = from;
  }

  /**
   * @returns undefined where there is none yet
   * @throws Error when it is damaged, or of another AppView or apex, and with what `signal` aborts
   */
  async load(apex: string, signal?: AbortSignal): Promise<SavedFeed | undefined> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const path = join(this.#folder, MANIFEST);
    const text = await readFile(path, 'utf8').catch(absent);
    if (text === undefined) return undefined;
    const manifest = manifestOf(text);
    if (!manifest) throw damaged(path, 'it is not what was written');
    if (manifest.from !== this.#from || manifest.apex !== apex) {
      const found = `${manifest.apex} from ${manifest.from}`;
      throw new Error(`${path} is the state of ${found}: give another --state, or remove the folder`);
    }
    const folder = join(this.#folder, manifest.folder);
    const sources = manifest.files.map(({ name, sha256 }) => {
      const [subtree, form] = name.slice(apex.length + 1).split('.');
      return { ...parseSource(`${subtree}=${form}:${join(folder, name)}`), sha256 };
    });
    const loaded = await loadZone({ apex, sources }, { ...(signal && { signal }) }).catch((error: Error) => {
      signal?.throwIfAborted();
      throw damaged(path, error.message);
    });
    if (loaded.entries !== manifest.entries || loaded.notTakenCount > 0) {
      throw damaged(path, `${loaded.entries} of ${manifest.entries} entries could be read`);
    }
    this.#manifest = manifest;
    const { cursor, currentAtMs } = manifest;
    return { cursor, currentAtMs, loaded };
  }

  /** The whole zone. @throws what the disk says; the state before it stays then, or this one is there already */
  async save(zone: Zone, point: FeedPoint, signal?: AbortSignal): Promise<void> {
    const folder = `zone-${point.cursor}-${zone.serial}`;
    const path = join(this.#folder, folder);
    // The same zone as was put last, when the disk failed behind it.
    if (this.#manifest?.folder === folder) return this.touch(point.currentAtMs);
    await rm(path, { recursive: true, force: true });
    await mkdir(path, { mode: 0o700 });
    try {
      const { files, entries, leftOut } = await exportZone(zone, {
        folder: path,
        formats: ['rbldnsd'],
        signal,
      });
      if (leftOut > 0) throw new Error(`${leftOut} entries cannot be written`);
      await syncFolder(this.#folder);
      const { apex } = zone;
      await this.#put({ ...point, version: 1, from: this.#from, apex, entries, folder, files });
    } catch (error) {
      if (this.#manifest?.folder !== folder) await rm(path, { recursive: true, force: true });
      throw error;
    }
    await this.#removeOthers(folder);
  }

  /** The zone is still what it was, at a later time. */
  async touch(currentAtMs: number): Promise<void> {
    if (this.#manifest) await this.#put({ ...this.#manifest, currentAtMs });
  }

  async #put(manifest: Manifest): Promise<void> {
    await writeAtomically(join(this.#folder, MANIFEST), textOf(manifest));
    // From here on feed.json names its folder, also where the disk does not promise that it lasts.
    this.#manifest = manifest;
    await syncFolder(this.#folder);
  }

  async #removeOthers(current: string): Promise<void> {
    for (const name of await readdir(this.#folder)) {
      if (!/^zone-\d+-\d+$/.test(name) || name === current) continue;
      await rm(join(this.#folder, name), { recursive: true, force: true });
    }
  }
}

function damaged(path: string, why: string): Error {
  return new Error(`${path} is damaged (${why}). Remove its folder to begin anew from the AppView.`);
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

/** The state and its own SHA-256: one changed digit of a cursor would lose entries for good. */
function textOf(manifest: Manifest): string {
  const state = JSON.stringify(manifest);
  return `{"state":${state},"sha256":"${sha256Of(state)}"}\n`;
}

/** @returns undefined for what textOf() did not write */
function manifestOf(text: string): Manifest | undefined {
  const [, state = '', sha256] = /^\{"state":(\{.*\}),"sha256":"([0-9a-f]{64})"\}\n$/s.exec(text) ?? [];
  if (sha256Of(state) !== sha256) return undefined;
  const manifest = JSON.parse(state) as Manifest;
  return manifest.version === 1 ? manifest : undefined;
}

function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
