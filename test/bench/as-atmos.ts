/** How the command starts its node, for programs of a benchmark that are to run as it does. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Environment and flags that the first line of `atmos` asks for, so that this node has no others. */
export function asAtmos(): { env: NodeJS.ProcessEnv; flags: string[] } {
  const root = join(import.meta.dirname, '../..');
  const [first] = readFileSync(join(root, 'node/atmos.js'), 'utf8').split('\n', 1);
  const [, , ...words] = first!.split(' ');
  const node = words.indexOf('node');
  const env = Object.fromEntries(words.slice(0, node).map((word) => word.split('=')));
  const compileCache = join(root, 'node_modules/.cache/compile');
  return { env: { ...env, NODE_COMPILE_CACHE: compileCache }, flags: words.slice(node + 1) };
}
