/**
 * `PUT /member/forward-to`, `PUT /member/contact`: where bounces and notices go.
 *
 * Promise: an address counts from the moment its owner followed the link that is mailed to it; until then the
 * one before stays. `null` takes the address away at once.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { problem } from '../../errors.ts';
import { behindDoor, type Door, principalOf } from '../../http/authenticated.ts';
import { Refusal, read, refuse } from '../../http/refusal.ts';
import type { AddressState, Contacts, Purpose } from '../../members/contacts.ts';
import { parseAddress } from '../mailbox.ts';
import type { OwnMail } from '../own-mail.ts';
import { confirmationLetter } from './confirm.ts';
import { line } from './send-schema.ts';

export type ForwardToOptions = {
  door: Door;
  contacts: Contacts;
  members: { domain(name: string): { did: string; name: string } | undefined };
  ownMail: Pick<OwnMail, 'send'>;
  publicUrl: string;
  poolDomain: string;
  /** Does mail for this domain come to this node? */
  receivesFor: (domain: string) => Promise<boolean>;
};

const address = line(320).nullable().describe('`you@elsewhere.example`; null takes it away');

export const forwardToRequest = z.strictObject({ domain: line(253), forward_to: address });
export const contactRequest = z.strictObject({ contact: address });

const status = z
  .enum(['active', 'pending', 'none'])
  .describe('`pending`: a link was mailed to the address; it counts once its owner followed it');

export const forwardToAnswer = z.strictObject({
  domain: z.string(),
  forward_to: z.string().nullable().describe('As asked'),
  status,
  active: z.string().nullable().describe('In force now'),
});

export const contactAnswer = z.strictObject({
  contact: z.string().nullable().describe('As asked'),
  status,
  active: z.string().nullable().describe('In force now'),
});

/** A fastify plugin. */
export function forwardToApi(o: ForwardToOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    const bodyLimit = 16 * 1024;
    app.put('/member/forward-to', { bodyLimit }, async (req): Promise<z.infer<typeof forwardToAnswer>> => {
      const { domain, forward_to: asked } = read(forwardToRequest, req.body);
      const { did } = principalOf(req);
      const enrolled = o.members.domain(domain);
      if (enrolled?.did !== did) return refuse('DOMAIN_MISMATCH', `You did not enrol ${domain}.`);
      const purpose: Purpose = { kind: 'forward-to', domain: enrolled.name };
      const wanted = readAddress('forward_to', asked);
      const state = await changeAddress(o, { did, purpose, domain: enrolled.name, wanted });
      return { domain: enrolled.name, forward_to: wanted, ...outcome(state) };
    });
    app.put('/member/contact', { bodyLimit }, async (req): Promise<z.infer<typeof contactAnswer>> => {
      const { contact: asked } = read(contactRequest, req.body);
      const wanted = readAddress('contact', asked);
      const { did } = principalOf(req);
      const purpose: Purpose = { kind: 'contact' };
      const state = await changeAddress(o, { did, purpose, domain: o.poolDomain, wanted });
      return { contact: wanted, ...outcome(state) };
    });
  };
}

/** `domain`: whose mail the letter counts as. `wanted`: well-formed, or null for none. */
export type Change = { did: string; purpose: Purpose; domain: string; wanted: string | null };

/** What asking the owner of an address needs. */
export type Asking = Omit<ForwardToOptions, 'door' | 'members'>;

/** The same for the API and for an operator. @throws Refusal when the letter may not or cannot be sent */
export async function changeAddress(o: Asking, change: Change): Promise<AddressState> {
  const { did, purpose, wanted } = change;
  if (wanted === null) o.contacts.clear(did, purpose);
  else {
    await refuseOurs(o, wanted);
    await ask(o, { ...change, wanted });
  }
  return o.contacts.state(did, purpose);
}

/** What this node receives it sends to the forward-to: a bounce would go round. @throws Refusal */
async function refuseOurs({ poolDomain, receivesFor }: Asking, wanted: string): Promise<void> {
  const domain = wanted.slice(wanted.lastIndexOf('@') + 1);
  if (domain === poolDomain || domain.endsWith(`.${poolDomain}`))
    refuse('INVALID_REQUEST', `${wanted} is an address of this cooperative: name one elsewhere.`);
  if (await receivesFor(domain))
    refuse(
      'INVALID_REQUEST',
      `${wanted}: mail for ${domain} comes to this relay. Name an address elsewhere.`,
    );
}

async function ask(
  { contacts, ownMail, publicUrl }: Asking,
  { did, purpose, domain, wanted }: Change & { wanted: string },
): Promise<void> {
  const asked = contacts.ask(did, purpose, wanted);
  if (asked.kind === 'confirmed') return;
  if (asked.kind === 'too-many') {
    const whose = asked.whose === 'member' ? 'you' : wanted;
    const again = new Date(asked.retryAt).toISOString();
    throw new Refusal(
      problem('CONFIRMATION_LIMIT', `Too many for ${whose} in one day; the next is possible at ${again}.`),
    );
  }
  const link = `${publicUrl}/c/${asked.token}`;
  const letter = confirmationLetter({ did, purpose, link, expiresAt: asked.expiresAt });
  if (await ownMail.send({ did, domain, to: wanted, ...letter })) return;
  contacts.withdraw(asked.token);
  refuse('STORAGE_FAILED');
}

function readAddress(field: string, text: string | null): string | null {
  if (text === null) return null;
  return parseAddress(text)?.address ?? refuse('INVALID_REQUEST', `${field}: is not an address.`);
}

function outcome({ confirmed, pending }: AddressState): {
  status: z.infer<typeof status>;
  active: string | null;
} {
  const settled = confirmed === null ? ('none' as const) : ('active' as const);
  return { status: pending === null ? settled : 'pending', active: confirmed };
}
