/** Ours without AUTH, TLS and signatures: a composition that exists in this bench only. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, startProgram, stop } from './children.ts';
import { nodeFlags, type Running, recipientDomain, type Surroundings, type System } from './system.ts';

export const bareOurs: System = {
  key: 'ours',
  name: 'ours',
  missing: () => false,
  async start({ dir, sinkPort }: Surroundings): Promise<Running> {
    const { env, flags } = asAtmos();
    const child = startProgram('bare-node.ts', [dir, String(sinkPort)], {
      env,
      flags: [...flags, ...nodeFlags],
    });
    const port = await messageOf<number>(child, 10_000, 'the bare node');
    return { port, recipientDomain, pids: [child.pid!], stop: () => stop(child) };
  },
};

/** Environment and flags that the first line of `atmos` asks for, so that this node has no others. */
function asAtmos(): { env: NodeJS.ProcessEnv; flags: string[] } {
  const root = join(import.meta.dirname, '../../..');
  const [first] = readFileSync(join(root, 'node/atmos.js'), 'utf8').split('\n', 1);
  const [, , ...words] = first!.split(' ');
  const node = words.indexOf('node');
  const env = Object.fromEntries(words.slice(0, node).map((word) => word.split('=')));
  const compileCache = join(root, 'node_modules/.cache/compile');
  return { env: { ...env, NODE_COMPILE_CACHE: compileCache }, flags: words.slice(node + 1) };
}
