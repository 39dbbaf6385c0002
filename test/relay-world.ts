/**
 * The whole relay between real programs: a node in its own process, and an inbox or another destination.
 *
 * Reef is a member as most are; Tide runs a PDS, so that its mail is transactional.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { verifyWithDkimpy } from './dkimpy.ts';
import { RelayNode, type RelayNodeOptions } from './relay-node.ts';
import { Inbox } from './sandbox/inbox.ts';

export const poolDomain = 'pool.test';
export const reef = { did: 'did:plc:reefreefreefreefreefreef', domain: 'reef.test' };
export const tide = { did: 'did:plc:tidetidetidetidetidetide', domain: 'tide.test' };

export type RelayWorld = Awaited<ReturnType<typeof openRelayWorld>>;

/** `other`: the port of a destination that is there instead of the inbox. */
export async function openRelayWorld(o: { other?: number } & Partial<RelayNodeOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-relay-'));
  const made = await generate([{ name: 'commonName', value: 'mx.test' }], { algorithm: 'sha256' });
  const certificate = { key: made.private, cert: made.cert };
  const inbox = await Inbox.start({ port: 0, tls: certificate, checkSignatures: async () => [] });
  const { other, ...more } = o;
  const node = await RelayNode.start({
    ...{ dir, poolDomain, deliveryPort: other ?? inbox.port },
    members: [
      { did: reef.did, domains: [reef.domain] },
      { did: tide.did, domains: [tide.domain], category: 'transactional' },
    ],
    ...more,
  }).catch(async (error: Error) => {
    await inbox.stop();
    throw error;
  });
  node.receives('dest.test');
  const [reefKey, tideKey] = node.members.map(({ apiKey }) => apiKey);
  return {
    ...{ dir, node, inbox, certificate, reefKey: reefKey!, tideKey: tideKey! },

    /** The verdicts on a message that went out. */
    verify: (message: Buffer) =>
      verifyWithDkimpy(message, Object.fromEntries(node.records.map(({ name, value }) => [name, value]))),

    close: async () => {
      await node.stop();
      await inbox.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What `verify` says of a good message of that domain. */
export function threeGood(domain: string): string[] {
  return [
    `${domain} ed25519-sha256 True`,
    `${domain} rsa-sha256 True`,
    `${poolDomain} rsa-sha256 True`,
  ].sort();
}
