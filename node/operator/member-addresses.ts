/**
 * What an operator does to addresses of a member: where its bounces and notices go, and whom it reaches.
 *
 * Promise: the owner of an address is asked by mail, whoever named it. What is taken off a suppression list is on
 * record in the same commit, with who did it and why.
 */
import type { RecordEvents } from '../enforcement/event-log.ts';
import { refuse } from '../http/refusal.ts';
import type { AddressState, Contacts } from '../members/contacts.ts';
import type { Members } from '../members/members.ts';
import type { Suppressions } from '../members/suppressions.ts';
import { type Asking, changeAddress } from '../relay/api/forward-to.ts';
import { parseAddress } from '../relay/mailbox.ts';

export type MemberAddresses = {
  /** @throws Refusal when no letter may be sent now */
  askForwardTo(domain: string, address: string): Promise<AddressState>;
  askContact(did: string, address: string): Promise<AddressState>;
  /** Also what only the recipient may ask for. @returns the reasons that were taken away */
  removeSuppression(o: { did: string; address: string; reason: string; actor: string }): string[];
};

export type MemberAddressesOptions = Asking & {
  members: Pick<Members, 'domain' | 'get'>;
  contacts: Contacts;
  suppressions: Pick<Suppressions, 'find' | 'remove'>;
  record: RecordEvents;
};

export function memberAddresses(o: MemberAddressesOptions): MemberAddresses {
  const { members, suppressions, poolDomain } = o;
  return {
    askForwardTo: async (name, address) => {
      const { did, name: domain } = members.domain(name) ?? refuse('NOT_FOUND', `${name} is not enrolled.`);
      const purpose = { kind: 'forward-to', domain } as const;
      return changeAddress(o, { did, purpose, domain, wanted: wellFormed(address) });
    },
    askContact: async (did, address) => {
      if (!members.get(did)) refuse('NOT_FOUND', `${did} is not enrolled.`);
      const purpose = { kind: 'contact' } as const;
      return changeAddress(o, { did, purpose, domain: poolDomain, wanted: wellFormed(address) });
    },
    removeSuppression: ({ did, address, reason, actor }) => {
      const entry = suppressions.find(did, address);
      if (!entry) return [];
      const detail = {
        act: 'unsuppress',
        recipient: address,
        was: entry.reason,
        reason,
        by: 'person',
        actor,
      };
      let removed: string[] = [];
      o.record({ type: 'staff_act', did, detail }, () => {
        removed = suppressions.remove(did, address);
      });
      return removed;
    },
  };
}

function wellFormed(address: string): string {
  return parseAddress(address)?.address ?? refuse('INVALID_REQUEST', `${address} is not an address.`);
}
