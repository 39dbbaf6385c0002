import { join } from 'node:path';

/**
 * Where Node keeps what it compiled from the sources, for all processes of the sandbox. Gone with the
 * installed tree that it was made from.
 */
export const compileCache = join(import.meta.dirname, '../../node_modules/.cache/compile');
