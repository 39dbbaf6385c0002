/**
 * The story of the system, told by doing it: a member attests, is verified, is vouched for by the
 * neighbour, sends, is looked up. Each step is watched from outside, over the protocols that others use.
 *
 * In a world that is resumed the attestation stands already; the rest happens again.
 */
import { Resolver } from 'node:dns/promises';
import { AtpAgent } from '@atproto/api';
import { createTransport } from 'nodemailer';
import { attest } from '../../node/members/attest.ts';
import type { Inbox } from './inbox.ts';
import type { Membership } from './memberships.ts';
import type { SignatureVerdict } from './signatures.ts';
import type { CooperativeWorld } from './world.ts';

export type Step = { text: string; ms: number };

export type Story = {
  pds: string;
  member: Membership;
  home: CooperativeWorld;
  neighbour: CooperativeWorld;
  inbox: Inbox;
  /** Selectors of the member's DKIM keys for a domain. */
  selectorsOf: (domain: string) => string[];
  signal?: AbortSignal;
};

const patienceMs = 20_000;
const pollMs = 15;
const collection = 'email.atmos.attestation';

/** @throws when a step did not happen within 20 s, saying which */
export async function tell(story: Story, onStep: (step: Step) => void): Promise<void> {
  const { member, home, neighbour } = story;
  const domain = member.domains[0]!;
  const step = timed(onStep);

  const stands = await standing(story, domain);
  const attestation = stands ?? (await write(story, domain));
  step(`${domain} ${stands ? 'has attested' : 'attests'} its domain in its own repository, on its PDS`);

  const labels = await labelsOn(story, attestation);
  step(`${nameOf(home)} finds its DNS right and labels it ${labels.join(', ')}`);

  const listing = await listingAt(neighbour, domain, story.signal);
  step(
    `${nameOf(neighbour)} checks the signed labels and lists it: kind ${listing.kind}, trust ${listing.trust}`,
  );

  const subject = `Hello from ${domain} at ${new Date().toISOString()}`;
  const { accepted, reply } = await send(story, domain, subject);
  step(`${domain} sends through ${nameOf(home)}: ${reply}`);

  if (accepted) {
    const caught = await story.inbox.waitFor((message) => message.subject === subject, patienceMs);
    const signatures = await caught.signatures;
    step(`It arrives in the inbox, signed: ${inWords(signatures)}`);
  }

  const name = `${domain}.dom.${neighbour.dns.apex}`;
  const address = await lookUp(neighbour, name, story.signal);
  step(`${nameOf(neighbour)}'s DNS answers ${name} A ${address}`);
}

/** Attests what is not attested yet and waits until both cooperatives list it, in silence. */
export async function settle(story: Story, domain: string): Promise<void> {
  if (!(await standing(story, domain))) await write(story, domain);
  for (const cooperative of [story.home, story.neighbour]) {
    await listingAt(cooperative, domain, story.signal);
  }
}

type Attestation = { uri: string; cid: string };

async function standing({ pds, member }: Story, domain: string): Promise<Attestation | undefined> {
  const agent = new AtpAgent({ service: pds });
  const { data } = await agent.com.atproto.repo.listRecords({ repo: member.did, collection, limit: 100 });
  return data.records.find(({ uri }) => uri.endsWith(`/${domain}`));
}

function write({ pds, member, selectorsOf }: Story, domain: string): Promise<Attestation> {
  return attest({
    pds,
    identifier: member.did,
    password: member.password,
    domain,
    selectors: selectorsOf(domain),
    relayMember: true,
  });
}

async function labelsOn({ home, signal }: Story, { uri, cid }: Attestation): Promise<string[]> {
  const url = `${home.labeler}/xrpc/com.atproto.label.queryLabels?uriPatterns=${encodeURIComponent(uri)}`;
  return until(`${nameOf(home)}'s labels on ${uri}`, signal, async () => {
    const { labels } = (await getJson(url)) as { labels: { val: string; cid?: string; neg?: boolean }[] };
    const inForce = labels.filter((label) => label.cid === cid && !label.neg).map(({ val }) => val);
    return inForce.includes('verified-mail-operator') && inForce.includes('relay-member')
      ? inForce
      : undefined;
  });
}

type Listing = { kind: number; trust: number };

function listingAt(at: CooperativeWorld, domain: string, signal?: AbortSignal): Promise<Listing> {
  const url = `${at.appview}/xrpc/email.atmos.listing.get?domain=${domain}`;
  return until(`${domain} in ${nameOf(at)}'s list`, signal, async () => {
    const { listing } = (await getJson(url)) as { listing?: Listing };
    // Kind 4 stands only until the label relay-member, which follows, is there too.
    return listing?.kind === 3 ? listing : undefined;
  });
}

/** A refusal is told too: with --warming the caps of the first days are soon reached. */
async function send({ home, member }: Story, domain: string, subject: string): Promise<Sent> {
  const transport = createTransport({
    ...home.submission,
    requireTLS: true,
    tls: { rejectUnauthorized: false },
    auth: { user: member.handle, pass: member.apiKey },
  });
  const text = [
    `This message left ${home.poolDomain} with the signatures of ${domain} and of its cooperative.`,
    'It was caught on this machine: the sandbox sends nothing anywhere.',
  ].join('\n');
  const message = { from: `hello@${domain}`, to: 'you@inbox.test', subject, text };
  try {
    return { accepted: true, reply: (await transport.sendMail(message)).response };
  } catch (error) {
    const { response } = error as { response?: string };
    if (response === undefined) throw error;
    return { accepted: false, reply: response };
  } finally {
    transport.close();
  }
}

type Sent = { accepted: boolean; reply: string };

function lookUp({ dns }: CooperativeWorld, name: string, signal?: AbortSignal): Promise<string> {
  const resolver = new Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([`${dns.host}:${dns.port}`]);
  return until(`an answer for ${name}`, signal, async () => {
    const [address] = await resolver.resolve4(name).catch(() => []);
    return address;
  });
}

async function getJson(url: string): Promise<unknown> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  return response.json();
}

/** Looks again and again, as an outsider must: none of the protocols asked says "now". */
async function until<T>(
  what: string,
  signal: AbortSignal | undefined,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const end = performance.now() + patienceMs;
  let last = 'nothing was seen';
  while (performance.now() < end) {
    signal?.throwIfAborted();
    const seen = await look().catch((error: Error) => {
      last = error.message;
      return undefined;
    });
    if (seen !== undefined) return seen;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
  throw new Error(`waited ${patienceMs / 1000} s for ${what} (${last})`);
}

/** `pass reef.test (ed25519, rsa), pass harbor.test (rsa)` */
function inWords(signatures: SignatureVerdict[]): string {
  const groups = Map.groupBy(signatures, ({ result, domain }) => `${result} ${domain}`);
  const algorithms = (group: SignatureVerdict[]) =>
    group.map((s) => s.algorithm.replace('-sha256', '')).join(', ');
  return [...groups].map(([words, group]) => `${words} (${algorithms(group)})`).join(', ') || 'by nobody';
}

function timed(onStep: (step: Step) => void): (text: string) => void {
  let last = performance.now();
  return (text) => {
    const now = performance.now();
    onStep({ text, ms: Math.round(now - last) });
    last = now;
  };
}

function nameOf({ name }: CooperativeWorld): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}
