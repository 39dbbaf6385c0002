/**
 * `atmos init`: a first configuration and the keys that go with it, also those of a labeler before this one.
 *
 * Nothing that is there is ever overwritten: neither a configuration nor a key.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Config, checkConfig } from '../config.ts';
import type { Role } from '../config-schema.ts';
import { importLabelKey } from '../cooperative/label-key.ts';
import { type Original, readOriginal } from '../cooperative/original.ts';
import { keysDir, openKeys } from '../state.ts';
import { configurationText } from './init-template.ts';
import { readHex } from './label-key.ts';

export type InitOptions = {
  file: string;
  name: string;
  /** Default: the host of `url`, where no mail is sent. */
  domain?: string;
  url: string;
  email?: string;
  /** Default: the did:web of `url`. */
  did?: string;
  /** Default: all. */
  roles?: Role[];
  /** The configuration of the labeler before this one: its key, where it listens, how often it checks. */
  importFile?: string;
};

export type Initialised = {
  file: string;
  did: string;
  labelKey: string;
  /** What of the imported configuration has no place here, and why. */
  left: Original['left'];
};

/** @throws ConfigError when an option makes an invalid file; Error when the file exists, or another key does */
export async function init(o: InitOptions): Promise<Initialised> {
  const path = resolve(o.file);
  const original = o.importFile === undefined ? undefined : importedFrom(resolve(o.importFile));
  const text = configurationText({ ...o, domain: domainOf(o), ...original });
  const config = checkConfig(text, path);
  // Before the file: a folder whose keys were lost must not get a configuration that hides it.
  const labelKey = await makeKeys(config, original);
  try {
    writeFileSync(path, text, { flag: 'wx', mode: 0o640 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new Error(`${path} is already there and stays as it is. Edit it, or name another with --config.`);
  }
  return { file: path, did: config.did, labelKey, left: original?.left ?? [] };
}

/** Mail is signed as the pool domain: that one is never guessed. */
function domainOf({ domain, url, roles }: InitOptions): string {
  if (domain !== undefined) return domain;
  if (!roles || roles.includes('relay'))
    throw new Error('--domain is missing: the pool domain signs all mail');
  return URL.canParse(url) ? new URL(url).hostname : url;
}

function importedFrom(file: string): Original {
  return readOriginal(readFileSync(file, 'utf8'), file);
}

async function makeKeys(config: Config, original: Original | undefined): Promise<string> {
  if (original) await importLabelKey(keysDir(config), readHex(original.signingKeyFile));
  return (await openKeys(config)).label.did();
}
