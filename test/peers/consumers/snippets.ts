/** The files that deploy/mta documents, as they are: a snippet that rots fails a test. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The apex that they all have in place of the reader's list. */
export const snippetApex = 'list.example.org';

const folder = join(import.meta.dirname, '../../../deploy/mta');

/** @param name such as `postfix/main.cf` */
export function snippet(name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}

export function snippetPath(name: string): string {
  return join(folder, name);
}
