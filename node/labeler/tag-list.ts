/**
 * The `tag=value; tag=value` syntax that DKIM keys (RFC 6376 §3.2) and DMARC policies (RFC 7489 §6.4) share.
 */

/**
 * Tags with their values, white space around both removed. A final semicolon is optional.
 *
 * @returns undefined when a part has no `=` or no name, or a name occurs twice: RFC 6376 §3.2 makes the
 *   whole list invalid then
 */
export function parseTagList(text: string): Map<string, string> | undefined {
  const tags = new Map<string, string>();
  for (const part of text.replace(/;\s*$/, '').split(';')) {
    const at = part.indexOf('=');
    const name = part.slice(0, Math.max(at, 0)).trim();
    if (!/^[a-zA-Z][a-zA-Z0-9_]*$/.test(name) || tags.has(name)) return undefined;
    tags.set(name, part.slice(at + 1).trim());
  }
  return tags;
}
