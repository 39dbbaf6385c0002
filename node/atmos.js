#!/usr/bin/env -S MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=262144 node --max-semi-space-size=2 --heap-growing-percent=60
/**
 * The `atmos` command.
 *
 * The first line is what a node needs of its surroundings to stay small: one malloc arena for all threads
 * instead of one each; a small young generation, since what lives for one message is soon gone; and a
 * collection each time the heap has grown by some 60 %. More collections are more CPU: what is outside of the heap
 * is freed by whoever used it (freeing.ts), so that messages do not call for them.
 * Compiled code is kept on disk, which spares every thread the type stripper (18 MB); so this one file is
 * JavaScript. Where the folder cannot be written, all works the same with more memory.
 */
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

const compileCache = join(import.meta.dirname, '../node_modules/.cache/compile');
enableCompileCache(compileCache);
// Threads begin without it, but read this.
process.env.NODE_COMPILE_CACHE ??= compileCache;
// To import `node:http` reads all its exports, and these three load undici, which a relay never
// uses: 13 MB of a bare process.
const http = process.getBuiltinModule('node:http');
for (const lazy of ['WebSocket', 'CloseEvent', 'MessageEvent']) Reflect.deleteProperty(http, lazy);
const { run } = await import('./cli/program.ts');
// Not `exitCode`: after a failed start a socket or an IPC channel may still be open.
process.exit(await run(process.argv));
