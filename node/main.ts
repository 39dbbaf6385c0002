#!/usr/bin/env node
/** The `atmos` command. Compiled code is cached first, so that the rest of the program starts quickly. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { run } = await import('./cli/program.ts');
// Not `exitCode`: after a failed start a socket or an IPC channel may still be open.
process.exit(await run(process.argv));
