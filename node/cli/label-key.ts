/**
 * What `atmos keys … label` and `atmos keys import` do: act on state/keys, and have the running node look there.
 *
 * Promise: a label key signs only when the DID document may name it at once (the did:web of `publicUrl`, which the
 * node serves), or names it already (did:plc by `atmos did plc`; a did:web elsewhere, by whoever keeps it).
 */
import { existsSync, readFileSync } from 'node:fs';
import { IdentityNotFound, IdentityUnavailable } from '../../appview/identity/did.ts';
import { type Config, readConfig } from '../config.ts';
import { didWeb, documentFaults, type LabelerParts, labelerService } from '../cooperative/did-document.ts';
import {
  activateLabelKey,
  dropOldLabelKey,
  importLabelKey,
  newLabelKey,
  oldLabelKeys,
  readLabelKey,
  waitingLabelKey,
} from '../cooperative/label-key.ts';
import { labelsOfOtherKeys } from '../labeler/old-keys.ts';
import { callNode, NoNodeRuns } from '../operator/control.ts';
import { databaseFile, keysDir, openKeys, openMembership } from '../state.ts';
import { networkOf } from './network.ts';

/** What the world sees of the label key. */
export type DocumentCheck = {
  /** What the DID document must contain. */
  must: { verificationMethod: { id: string; type: 'Multikey'; publicKeyMultibase: string }; service: object };
  /** `unread`: nobody gave it. */
  state: 'right' | 'wrong' | 'unread';
  faults: string[];
};

export type LabelKeys = {
  did: string;
  labelKey: string;
  /** It signs once the DID document names it. */
  waiting?: string;
  /** Those before, and how many labels that stand one of them still signs. */
  old: { keys: string[]; labels: number };
  document: DocumentCheck;
};

/** @throws ConfigError, CorruptState */
export async function shownLabelKeys(configFile: string): Promise<LabelKeys> {
  const config = readConfig(configFile);
  const dir = keysDir(config);
  const labelKey = (await readLabelKey(dir)).did();
  const waiting = (await waitingLabelKey(dir))?.did();
  const keys = await oldLabelKeys(dir);
  return {
    ...{ did: config.did, labelKey, ...(waiting && { waiting }) },
    old: { keys, labels: keys.length > 0 ? await standingOfOthers(config, labelKey) : 0 },
    document: await documentCheck(config, { labelKey, labelerUrl: config.labelerUrl }),
  };
}

export type Rotated = {
  did: string;
  labelKey: string;
  before: string;
  signs: boolean;
  /** False: the next start signs with it. */
  running: boolean;
  /** What the world sees now; where no node runs, the key before. */
  document: DocumentCheck;
};

/**
 * That of the did:web served here signs at once; another waits, and signs when this is called again and the
 * document names it.
 *
 * @throws ConfigError, CorruptState
 */
export async function rotateLabelKey(configFile: string): Promise<Rotated> {
  const config = readConfig(configFile);
  const dir = keysDir(config);
  const before = (await readLabelKey(dir)).did();
  const labelKey = (await newLabelKey(dir)).did();
  const look = () => documentCheck(config, { labelKey, labelerUrl: config.labelerUrl });
  const isServedHere = config.did === didWeb(config.publicUrl);
  const seen = isServedHere ? undefined : await look();
  const signs = isServedHere || seen?.state === 'right';
  const running = signs && (await useWaitingKey(config));
  return { did: config.did, labelKey, before, signs, running, document: seen ?? (await look()) };
}

/** The waiting key signs from now on. @returns whether a running node heard of it. @throws CorruptState */
export async function useWaitingKey(config: Config): Promise<boolean> {
  await activateLabelKey(keysDir(config));
  try {
    await callNode(config.stateDir, 'POST', '/label-key/read');
    return true;
  } catch (error) {
    if (error instanceof NoNodeRuns) return false;
    throw error;
  }
}

/**
 * Removes label keys that sign no more.
 *
 * @param o.atOnce also while labels stand that one of them signed
 * @returns their did:keys
 * @throws ConfigError, CorruptState; Error naming how many labels stand
 */
export async function dropOldLabelKeys(configFile: string, o: { atOnce?: boolean } = {}): Promise<string[]> {
  const config = readConfig(configFile);
  const dir = keysDir(config);
  const keys = await oldLabelKeys(dir);
  const labels = o.atOnce ? 0 : await standingOfOthers(config, (await readLabelKey(dir)).did());
  if (labels > 0)
    throw new Error(
      `${labels} labels that stand were signed with an old key and read by nobody since. They are renewed within "labelLifetime"; --at-once drops it now`,
    );
  for (const key of keys) dropOldLabelKey(dir, key);
  return keys;
}

/**
 * The label key of another labeler becomes ours, with the same did:key.
 *
 * @param hexFile a path, or `-` for standard input
 * @throws ConfigError; RangeError where another key is there, or for what is no key; CorruptState
 */
export async function importKey(configFile: string, hexFile: string): Promise<{ labelKey: string }> {
  const config = readConfig(configFile);
  const key = await importLabelKey(keysDir(config), readHex(hexFile));
  await openKeys(config);
  return { labelKey: key.did() };
}

/** @throws Error naming the file, never its content */
export function readHex(file: string): string {
  // Not even in the message of an error: what follows would be "no such file", with the key in it.
  if (/^[0-9a-f]{64}$/i.test(file))
    throw new Error(
      'a key on the command line can be read by everyone here: name a file, or - for standard input',
    );
  const text = readFileSync(file === '-' ? 0 : file, 'utf8');
  if (text.length > 1024) throw new RangeError(`${file} is longer than a key`);
  return text;
}

/** Asks the world, not ourselves. */
export async function documentCheck(config: Config, wanted: LabelerParts): Promise<DocumentCheck> {
  const must = mustContain(wanted);
  try {
    const identity = await networkOf(config).identities.resolve(config.did);
    const faults = documentFaults(identity, wanted);
    return { must, state: faults.length > 0 ? 'wrong' : 'right', faults };
  } catch (error) {
    if (error instanceof IdentityNotFound || error instanceof IdentityUnavailable)
      return { must, state: 'unread', faults: [error.message] };
    throw error;
  }
}

function mustContain({ labelKey, labelerUrl }: LabelerParts): DocumentCheck['must'] {
  const publicKeyMultibase = labelKey.slice('did:key:'.length);
  return {
    verificationMethod: { id: '#atproto_label', type: 'Multikey', publicKeyMultibase },
    service: labelerService(labelerUrl),
  };
}

async function standingOfOthers(config: Config, labelKey: string): Promise<number> {
  if (!existsSync(databaseFile(config))) return 0;
  const { db } = await openMembership(config, Date.now);
  try {
    return labelsOfOtherKeys(db, labelKey);
  } finally {
    db.close();
  }
}
