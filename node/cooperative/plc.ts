/**
 * Makes a did:plc account a labeler: the key `#atproto_label` and the service `#atproto_labeler` in its document.
 *
 * Promise: nothing else of the document changes, rotation keys above all: what the PDS signed is compared with
 * what was asked for before it is sent on. A document that is right already is left alone, and no mail is asked for.
 * The PDS signs (com.atproto.identity.signPlcOperation), against a token that it mails to the account's owner.
 *
 * https://atproto.com/specs/did, https://web.plc.directory/spec/v0.1/did-plc
 */
import { isDeepStrictEqual } from 'node:util';
import type { AtpAgent } from '@atproto/api';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import { said } from './agent.ts';
import { type LabelerParts, labelerService } from './did-document.ts';

/** The document as the directory keeps it. */
export type PlcData = {
  rotationKeys: string[];
  alsoKnownAs: string[];
  verificationMethods: Record<string, string>;
  services: Record<string, { type: string; endpoint: string }>;
};

export type PlcOptions = {
  /** Base URL of the directory. */
  plcUrl: string;
  fetch: GuardedFetch;
  did: string;
  wanted: LabelerParts;
};

/** Something is wrong that a person must look at; `message` says what. */
export class PlcRefused extends Error {
  override name = 'PlcRefused';
}

const maxDataBytes = 256 * 1024;

/** @throws PlcRefused, FetchFailed, FetchRefused */
export async function plcData({ plcUrl, fetch, did }: Omit<PlcOptions, 'wanted'>): Promise<PlcData> {
  const url = `${plcUrl.replace(/\/+$/, '')}/${did}/data`;
  const { status, body } = await fetch(url, { maxBytes: maxDataBytes });
  const data = status === 200 ? plcDataOf(fromJson(body)) : undefined;
  if (!data) throw new PlcRefused(`${url} answered ${status} and no document`);
  return data;
}

/** Is the document as a labeler's must be? */
export function isLabeler(data: PlcData, wanted: LabelerParts): boolean {
  return isDeepStrictEqual(asLabeler(data, wanted), data);
}

/** Has the PDS mail the token. @throws PdsRefused */
export async function requestToken(agent: AtpAgent): Promise<void> {
  await said(() => agent.com.atproto.identity.requestPlcOperationSignature());
}

/**
 * @param agent signed in with the account's own password: an app password may not do this
 * @param token as it was mailed
 * @returns false where nothing had to change
 * @throws PdsRefused, PlcRefused, FetchFailed, FetchRefused
 */
export async function becomeLabeler(agent: AtpAgent, token: string, o: PlcOptions): Promise<boolean> {
  const before = await plcData(o);
  const after = asLabeler(before, o.wanted);
  if (isDeepStrictEqual(after, before)) return false;
  const { verificationMethods, services } = after;
  const { identity } = agent.com.atproto;
  const { data } = await said(() => identity.signPlcOperation({ token, verificationMethods, services }));
  if (!isDeepStrictEqual(plcDataOf(data.operation), after))
    throw new PlcRefused('the PDS signed something else than it was asked to; nothing was changed');
  await said(() => identity.submitPlcOperation({ operation: data.operation }));
  if (!isLabeler(await plcData(o), o.wanted))
    throw new PlcRefused('the PDS took the change, and the directory does not show it');
  return true;
}

function asLabeler(data: PlcData, { labelKey, labelerUrl }: LabelerParts): PlcData {
  const { type, serviceEndpoint: endpoint } = labelerService(labelerUrl);
  return {
    ...data,
    verificationMethods: { ...data.verificationMethods, atproto_label: labelKey },
    services: { ...data.services, atproto_labeler: { type, endpoint } },
  };
}

/** Only what we compare; undefined for what is no document. */
function plcDataOf(value: unknown): PlcData | undefined {
  const { rotationKeys, alsoKnownAs, verificationMethods, services } = (value ?? {}) as Partial<PlcData>;
  const isWhole =
    Array.isArray(rotationKeys) && Array.isArray(alsoKnownAs) && verificationMethods && services;
  return isWhole ? { rotationKeys, alsoKnownAs, verificationMethods, services } : undefined;
}

function fromJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    return undefined;
  }
}
