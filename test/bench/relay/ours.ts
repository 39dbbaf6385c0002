/**
 * Our own node as an operator runs it. Caps are raised, those of sessions too: one client opens more when answers
 * are late, and that is to be measured. Everything else is the default.
 */
import { join } from 'node:path';
import { RelayNode } from '../../relay-node.ts';
import { onStop } from './children.ts';
import {
  nodeFlags,
  poolDomain,
  type Running,
  recipientDomain,
  type Surroundings,
  type System,
  senderDomain,
} from './system.ts';

const twoSignatures = join(import.meta.dirname, 'two-signatures.ts');
const manySessions = { maxConnections: 2_000, perAddress: 2_000, perMember: 2_000 };
const did = 'did:plc:benchbenchbenchbenchbenc';

/** Member RSA, member Ed25519 and pool RSA. */
export const ours: System = { ...system('ours', 'ours, three signatures'), start: (o) => start(o) };

/** Member RSA and pool RSA: what the others sign. */
export const oursTwoSignatures: System = {
  ...system('ours2', 'ours, two rsa-sha256'),
  start: (o) => start(o, ['--import', twoSignatures]),
};

function system(key: string, name: string) {
  return { key, name, missing: (): false => false };
}

async function start({ dir, sinkPort, tls }: Surroundings, more: string[] = []): Promise<Running> {
  const node = await RelayNode.start({
    ...{ dir, poolDomain, deliveryPort: sinkPort },
    config: {
      tls,
      submission: manySessions,
      ...(JSON.parse(process.env.ATMOS_BENCH_CONFIG ?? '{}') as object),
    },
    nodeFlags: [...nodeFlags, ...more],
    members: [{ did, domains: [senderDomain] }],
  });
  node.receives(recipientDomain);
  const stop = onStop(() => node.stop());
  return {
    ...{ port: node.submission.port, recipientDomain, pids: [node.pid], records: node.records, stop },
    auth: { user: did, pass: node.members[0]!.apiKey },
  };
}
