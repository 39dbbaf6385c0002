/**
 * What a line of an rbldnsd file says of its entry: `:127.0.3.1:text $`, `:3:text`, `text`, or nothing.
 *
 * The template that comes out has its variables filled in: `$` is the listed name alone, `$$` a dollar.
 */
import { isIPv4 } from 'node:net';

export type LineValue = {
  /** Dotted IPv4, in 127.0.0.0/8. */
  address: string;
  /** As ForeignAnswer.text; undefined: no TXT. */
  text: string | undefined;
};

/** A dataset's variables `$0` to `$9`, without a dollar sign in them. */
export type Variables = ReadonlyMap<string, string>;

export const implicitValue: LineValue = { address: '127.0.0.2', text: undefined };

/** Of an entry, or of a default line. @returns why it is not taken, otherwise */
export function parseValue(written: string, standard: LineValue, variables: Variables): LineValue | string {
  if (written === '' || isComment(written)) return standard;
  if (!written.startsWith(':')) return withText(standard.address, written, variables);
  const [, number = '', rest = ''] = /^:\s*([0-9.]+)\s*(.*)$/s.exec(written) ?? [];
  const address = codeOf(number);
  if (address === undefined) return 'its A value is no address in 127.0.0.0/8';
  if (rest === '' || isComment(rest)) return { address, text: standard.text };
  if (!rest.startsWith(':')) return 'a colon is missing behind its A value';
  const text = rest.slice(1).trimStart();
  return text === '' || isComment(text) ? { address, text: undefined } : withText(address, text, variables);
}

function isComment(text: string): boolean {
  return text.startsWith('#') || text.startsWith(';');
}

/** `2` is short for `127.0.0.2`. */
function codeOf(number: string): string | undefined {
  const full = /^\d{1,3}$/.test(number) ? `127.0.0.${Number(number)}` : number;
  return isIPv4(full) && full.startsWith('127.') ? full : undefined;
}

function withText(address: string, written: string, variables: Variables): LineValue | string {
  let unknown: string | undefined;
  const text = written.replaceAll(/\$([$0-9]?)/g, (whole, name: string) => {
    if (name === '' || name === '$') return whole;
    const value = variables.get(name);
    if (value === undefined) unknown = whole;
    return value ?? '';
  });
  return unknown === undefined ? { address, text } : `${unknown} is not defined above it`;
}
