/**
 * Writes a member's attestation into its own repository, with the member's own password.
 *
 * The one act that only the member can do: the cooperative never holds these credentials, so this
 * runs as a command on the member's machine (or in the sandbox), not inside the node.
 */
import { AtpAgent } from '@atproto/api';
import { l } from '@atproto/lex';
import { email } from '../../lexicons/index.ts';
import { normalizeDomain } from './domain-name.ts';

export type AttestRequest = {
  /** Base URL of the member's PDS. */
  pds: string;
  /** Handle or DID. */
  identifier: string;
  /** An app password is enough. Never logged. */
  password: string;
  /** In any spelling; its normal form becomes the record key. */
  domain: string;
  selectors: string[];
  relayMember: boolean;
};

/**
 * Creates or replaces `email.atmos.attestation/<domain>`.
 *
 * @returns the record's at:// URI, its cid and the DID that holds it
 * @throws XRPCError when the PDS refuses the login or the record; RangeError for what is no domain and
 *   LexValidationError when the record would break the lexicon (then nothing was sent)
 */
export async function attest(request: AttestRequest): Promise<{ did: string; uri: string; cid: string }> {
  // Readers take only this form: another would be written, and silently count for nothing.
  const domain = normalizeDomain(request.domain);
  if (domain === undefined)
    throw new RangeError(`${request.domain} is not a domain. It looks like reef.example.`);
  const record = email.atmos.attestation.main.build({
    domain,
    dkimSelectors: request.selectors,
    ...(request.relayMember && { relayMember: true }),
    createdAt: l.currentDatetimeString(),
  });
  email.atmos.attestation.main.parse(record);
  const agent = await login(request);
  const { data } = await agent.com.atproto.repo.putRecord({
    repo: agent.assertDid,
    collection: record.$type,
    rkey: domain,
    record,
    // A PDS does not know this lexicon; readers validate for themselves.
    validate: false,
  });
  return { did: agent.assertDid, uri: data.uri, cid: data.cid };
}

/** Deletes the attestation of a domain; one that is not there is fine. @throws XRPCError as attest */
export async function withdraw(request: Omit<AttestRequest, 'selectors' | 'relayMember'>): Promise<void> {
  const agent = await login(request);
  const collection = email.atmos.attestation.main.$type;
  await agent.com.atproto.repo.deleteRecord({
    repo: agent.assertDid,
    collection,
    rkey: normalizeDomain(request.domain) ?? request.domain,
  });
}

async function login({ pds, identifier, password }: Pick<AttestRequest, 'pds' | 'identifier' | 'password'>) {
  const agent = new AtpAgent({ service: pds });
  await agent.login({ identifier, password });
  return agent;
}
