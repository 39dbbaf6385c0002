/** `npm start -- --join`: the third cooperative beside a sandbox that runs, and what to try with it. */
import { once } from 'node:events';
import { join, relative } from 'node:path';
import { type Newcomer, startNewcomer } from './newcomer.ts';
import { readSecret } from './secrets.ts';
import type { World } from './world.ts';
import type { RecordSet } from './zone.ts';

/** Runs until `signal`. @throws when no sandbox runs with this folder, or the cooperative ends unasked */
export async function joinWorld(o: {
  folder: string;
  portOffset: number;
  warming: boolean;
  signal: AbortSignal;
}): Promise<void> {
  const world = readSecret<World>(join(o.folder, 'world.json'));
  if (!world) throw new Error(`${o.folder} is no sandbox. Start one first: npm start`);
  const ending = new AbortController();
  const signal = AbortSignal.any([o.signal, ending.signal]);
  let failure: string | undefined;
  const onEnd = (reason: string) => {
    failure = reason;
    ending.abort();
  };
  const publish = (sets: RecordSet[]) => publishOver(`${world.inbox.web}/api/dns`, sets);
  const newcomer = await startNewcomer({ ...o, world, publish, onEnd, signal });
  console.log(guide(newcomer, o.folder, world));
  if (!signal.aborted) await once(signal, 'abort');
  await newcomer.node.stop();
  if (failure) throw new Error(failure);
}

async function publishOver(url: string, sets: RecordSet[]): Promise<void> {
  for (const set of sets) {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(url, { method: 'PUT', headers, body: JSON.stringify(set) });
    if (!answer.ok) throw new Error(`the DNS world answered ${answer.status} to ${set.name}`);
  }
}

/** Each command works as it stands here, in the folder of the program. */
export function guide({ name, member, world: dune }: Newcomer, folder: string, world: World): string {
  const harbor = world.cooperatives[0]!;
  const config = `--config ${relative(process.cwd(), join(folder, harbor.name, 'atmos.jsonc'))}`;
  return `Dune runs: ${dune.web}, DID ${dune.did}. Its member ${member.domain} has attested.
Nobody vouches for ${member.domain} at Harbor yet. Try, in another terminal:

  npx atmos peer add ${name} ${config}
  dig @${harbor.dns.host} -p ${harbor.dns.port} ${member.domain}.dom.${harbor.dns.apex}
  npx atmos peer show ${name} ${config}
  npx atmos peer remove ${name} ${config}

Ctrl-C stops Dune.`;
}
