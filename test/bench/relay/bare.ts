/** Ours without AUTH, TLS and signatures: a composition that exists in this bench only. */
import { asAtmos } from '../as-atmos.ts';
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
