/**
 * What `atmos member …` does: acts on node.db directly, also while the node runs.
 *
 * The node looks there for due work, so a new member is verified within seconds.
 */
import type { Database } from '../../appview/database.ts';
import { readConfig } from '../config.ts';
import { type Verification, Verifications } from '../labeler/verifications.ts';
import type { ApiKeyRow } from '../members/api-keys.ts';
import { type Category, categories, parseCategory } from '../members/category.ts';
import { type AddressState, Contacts } from '../members/contacts.ts';
import type { NewDkimKey } from '../members/dkim-keys.ts';
import type { DnsRecord, EnrolmentRefusal, Member, Members } from '../members/members.ts';
import { Suppressions } from '../members/suppressions.ts';
import { callNode } from '../operator/control.ts';
import { openMembership } from '../state.ts';

export type Enrolment = {
  did: string;
  handle: string | null;
  domains: string[];
  /** Shown once; only its hash is kept. */
  apiKey: string;
  /** What the member publishes. */
  dns: DnsRecord[];
  /** A peer suspended it: it waits until a person has looked. */
  held: boolean;
};

export type EnrolRequest = {
  did: string;
  handle?: string;
  domains: string[];
  /** False: enrolled for attestation alone. */
  relay: boolean;
  /** Of the first key, for mail that does not say; without it the domain's counts. A PDS wants `transactional`. */
  category?: string;
  /** By domain, of a member that brings its own. */
  keys?: ReadonlyMap<string, NewDkimKey[]>;
};

/** Enrols a member and makes its first API key. @throws ConfigError; Error saying why it was refused */
export async function enrolMember(configFile: string, request: EnrolRequest): Promise<Enrolment> {
  const category = keyOptions(request.category);
  // Where no mail is sent from, everyone is enrolled for attestation alone.
  const relay = request.relay && readConfig(configFile).roles.includes('relay');
  return withMembers(configFile, async (members, db) => {
    const enrolled = await members.enrol({ ...request, relay });
    if ('kind' in enrolled) throw new Error(refusalText(enrolled));
    const { key } = await members.issueApiKey(request.did, 'first key', category);
    return { ...summary(members, enrolled), apiKey: key, held: isHeld(db, request.did) };
  });
}

/** Another API key; earlier ones stay valid. @throws ConfigError; RangeError when not enrolled */
export function newApiKey(
  configFile: string,
  did: string,
  name: string,
  category?: string,
): Promise<{ id: string; key: string }> {
  return withMembers(configFile, (members) => members.issueApiKey(did, name, keyOptions(category)));
}

/** @returns false when the member has no such live key. @throws ConfigError */
export function revokeApiKey(configFile: string, did: string, id: string): Promise<boolean> {
  return withMembers(configFile, async (members) => members.revokeApiKey(did, id));
}

/** Also those that were revoked. @throws ConfigError; RangeError when not enrolled */
export function apiKeys(configFile: string, did: string): Promise<ApiKeyRow[]> {
  return withMembers(configFile, async (members) => {
    if (!members.get(did)) throw new RangeError(`${did} is not enrolled`);
    return members.apiKeys(did);
  });
}

/** @throws ConfigError */
export function listMembers(configFile: string): Promise<Member[]> {
  return withMembers(configFile, async (members) => members.list());
}

/** The records that a domain's owner publishes. @throws ConfigError; RangeError when not enrolled */
export function dnsRecords(configFile: string, domain: string): Promise<DnsRecord[]> {
  return withMembers(configFile, async (members) => members.dnsRecords(domain));
}

/** Has the running node check a domain's DNS within a second. @throws ConfigError; RangeError when not enrolled */
export async function checkNow(configFile: string, domain: string): Promise<void> {
  const { db, members } = await openMembership(readConfig(configFile), Date.now);
  try {
    const enrolled = members.domain(domain);
    if (!enrolled) throw new RangeError(`${domain} is not enrolled`);
    new Verifications(db).makeDue({ did: enrolled.did, domain: enrolled.name });
  } finally {
    db.close();
  }
}

/** What the last check of a domain found. @throws ConfigError; RangeError when not enrolled */
export async function lastCheck(configFile: string, domain: string): Promise<Verification> {
  const { db, members } = await openMembership(readConfig(configFile), Date.now);
  try {
    const enrolled = members.domain(domain);
    const known = enrolled && new Verifications(db).get({ did: enrolled.did, domain: enrolled.name });
    if (!known) throw new RangeError(`${domain} is not enrolled`);
    return known;
  } finally {
    db.close();
  }
}

/**
 * Where DSNs of a domain go, once the owner of the address has confirmed it: the running node mails the link.
 *
 * An operator's word is not enough. In the sandbox, where no mail leaves the machine, it counts at once.
 *
 * @returns whether mail goes there already
 * @throws ConfigError; Error when no node runs; RangeError when the domain is not enrolled
 */
export async function setForwardTo(configFile: string, domain: string, address: string): Promise<boolean> {
  const { network, stateDir } = readConfig(configFile);
  if (!network.loopbackOnly) {
    const state = await callNode(stateDir, 'POST', '/members/forward-to', { domain, address });
    return (state as AddressState).confirmed === address;
  }
  await confirmNow(configFile, domain, address);
  return true;
}

async function confirmNow(configFile: string, domain: string, address: string): Promise<void> {
  const { db, members } = await openMembership(readConfig(configFile), Date.now);
  try {
    const enrolled = members.domain(domain);
    if (!enrolled) throw new RangeError(`${domain} is not enrolled`);
    const purpose = { kind: 'forward-to', domain: enrolled.name } as const;
    new Contacts({ db, now: Date.now }).confirmNow(enrolled.did, purpose, address);
  } finally {
    db.close();
  }
}

/** @throws ConfigError */
export async function listSuppressions(configFile: string, did: string, cursor?: string) {
  const { db } = await openMembership(readConfig(configFile), Date.now);
  try {
    return new Suppressions({ db, now: Date.now }).list(did, { limit: 100, ...(cursor && { cursor }) });
  } finally {
    db.close();
  }
}

async function withMembers<T>(
  configFile: string,
  act: (members: Members, db: Database.Database) => Promise<T>,
): Promise<T> {
  const { db, members } = await openMembership(readConfig(configFile), Date.now);
  try {
    return await act(members, db);
  } finally {
    db.close();
  }
}

function isHeld(db: Database.Database, did: string): boolean {
  const row = db.prepare('SELECT state FROM member WHERE did = ?').get(did) as { state: string };
  return row.state === 'held';
}

function summary(members: Members, member: Member): Omit<Enrolment, 'apiKey' | 'held'> {
  const domains = member.domains.map(({ name }) => name);
  const dns = domains.flatMap((domain) => members.dnsRecords(domain));
  return { did: member.did, handle: member.handle, domains, dns };
}

/** @throws Error for a word that is no category: an unknown one must not silently become another */
function keyOptions(text: string | undefined): { category?: Category } {
  if (text === undefined) return {};
  const category = parseCategory(text);
  if (!category) throw new Error(`${text} is not a category. Known: ${categories.join(', ')}.`);
  return { category };
}

function refusalText(refusal: EnrolmentRefusal): string {
  switch (refusal.kind) {
    case 'invalid-did':
      return `${refusal.did} is not a DID. It looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz.`;
    case 'invalid-domain':
      return `${refusal.domain} is not a domain that can send mail. It looks like reef.example.`;
    case 'invalid-handle':
      return `${refusal.handle} is not a handle. It looks like reef.example.`;
    case 'pool-domain':
      return `${refusal.domain} is the pool domain, which signs for every member and is enrolled for none.`;
    case 'domain-enrolled':
      return `${refusal.domain} is enrolled for this member already, with keys of its own.`;
    case 'domain-taken':
      return `${refusal.domain} is enrolled for another member. Ask that member to give it up first.`;
    case 'too-many-domains':
      return `A member has at most ${refusal.limit} domains here.`;
  }
}
