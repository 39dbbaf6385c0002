/** Class CHAOS: what the server says of itself (RFC 4892 §2, and the older names of BIND). */
import { keyOfLabels } from './name.ts';
import type { QueryReader } from './query.ts';

export const CLASS_CHAOS = 3;

type Text = { key: Uint8Array; text: Uint8Array };

/** @returns names that answer with a text; those without one do not exist */
export function chaosTexts(version: string, nsid: string): Text[] {
  const texts: [labels: string[], text: string][] = [
    [['version', 'bind'], version],
    [['version', 'server'], version],
    [['hostname', 'bind'], nsid],
    [['id', 'server'], nsid],
  ];
  return texts
    .filter(([, text]) => text !== '')
    .map(([labels, text]) => ({ key: Buffer.from(keyOfLabels(labels), 'latin1'), text: Buffer.from(text) }));
}

export function chaosText(texts: readonly Text[], query: QueryReader): Uint8Array | undefined {
  return texts.find(({ key }) => isName(query, key))?.text;
}

function isName(query: QueryReader, key: Uint8Array): boolean {
  return query.nameLength === key.length && key.every((octet, index) => query.name[index] === octet);
}
