/**
 * Mailboxes, read strictly: `a@b`, `Name <a@b>`, lists of them.
 *
 * The grammar is RFC 5322 §3.4 with RFC 6532's letters and without all that two readers may read in two
 * ways: obsolete routes, comments inside an address, groups, address literals, encoded words in a local
 * part, an unquoted `@` in a display name. Who may use an address is admission.ts's question.
 */
import { normalizeDomain } from '../members/domain-name.ts';

export type Mailbox = {
  /** The domain as A-labels in lower case, the local part as written. */
  address: string;
  domain: string;
  /** Display name and comments as written, quotes removed; encoded words not yet decoded. */
  text: string;
};

type Token = { kind: 'word' | 'quoted' | 'comment' | 'special'; text: string; start: number; end: number };

// RFC 5322 §3.2.3 atext, RFC 6532 §3.2 UTF-8; the dot is taken along and checked where it matters.
const word = /[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\u{10ffff}-]+/uy;
const quoted = /"((?:[^"\\\r\n]|\\[^\r\n])*)"/uy;
const blank = /[ \t]+/y;
const special = /[<>@,]/y;

/** More than a message may go to, so that who counts them can say so. Reading each costs. */
const maxMailboxes = 200;
/** With display names; a header of nothing but one comment is read no further. */
const maxText = 16 * 1024;

/** @returns undefined when the list is not one or more well-formed mailboxes, or has more than 200 */
export function parseMailboxes(text: string): Mailbox[] | undefined {
  const tokens = text.length > maxText ? undefined : tokenize(text);
  if (!tokens) return undefined;
  const mailboxes = splitAtCommas(tokens).map(toMailbox);
  return mailboxes.every((mailbox) => mailbox !== undefined) ? mailboxes : undefined;
}

/**
 * @param text `local@domain` alone
 * @returns the address with its domain as A-labels in lower case, or undefined when it is malformed
 */
export function parseAddress(text: string): { address: string; domain: string } | undefined {
  const mailbox = /^[^\s<>]+$/u.test(text) ? parseMailboxes(text) : undefined;
  return mailbox?.length === 1 && mailbox[0]!.text === ''
    ? { address: mailbox[0]!.address, domain: mailbox[0]!.domain }
    : undefined;
}

function tokenize(text: string): Token[] | undefined {
  const tokens: Token[] = [];
  let commas = 0;
  for (let at = 0; at < text.length; ) {
    const read = text[at] === '(' ? readComment(text, at) : readToken(text, at);
    if (!read) return undefined;
    if (read.token) tokens.push(read.token);
    if (read.token && isSpecial(read.token, ',') && ++commas >= maxMailboxes) return undefined;
    at = read.end;
  }
  return tokens;
}

function readToken(text: string, at: number): { token?: Token; end: number } | undefined {
  const rules = [
    ['word', word],
    ['quoted', quoted],
    ['special', special],
  ] as const;
  for (const [kind, rule] of rules) {
    rule.lastIndex = at;
    const match = rule.exec(text);
    if (!match) continue;
    const content = kind === 'quoted' ? match[1]!.replace(/\\(.)/gu, '$1') : match[0];
    const end = rule.lastIndex;
    return { token: { kind, text: content, start: at, end }, end };
  }
  blank.lastIndex = at;
  return blank.test(text) ? { end: blank.lastIndex } : undefined;
}

/** Comments nest (RFC 5322 §3.2.2). */
function readComment(text: string, start: number): { token: Token; end: number } | undefined {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '(') depth++;
    else if (text[at] === ')' && --depth === 0)
      return { token: { kind: 'comment', text: text.slice(start + 1, at), start, end: at + 1 }, end: at + 1 };
  }
  return undefined;
}

function splitAtCommas(tokens: readonly Token[]): Token[][] {
  const parts: Token[][] = [[]];
  for (const token of tokens) {
    if (isSpecial(token, ',')) parts.push([]);
    else parts.at(-1)!.push(token);
  }
  return parts;
}

function toMailbox(tokens: readonly Token[]): Mailbox | undefined {
  const comments = tokens.filter(({ kind }) => kind === 'comment');
  const open = tokens.findIndex((token) => isSpecial(token, '<'));
  if (open === -1) {
    const spec = tokens.filter(({ kind }) => kind !== 'comment');
    return fromSpec(spec, comments);
  }
  const close = tokens.findIndex((token) => isSpecial(token, '>'));
  const name = tokens.slice(0, open);
  const behind = tokens.slice(close + 1);
  const isPlain = (token: Token): boolean => token.kind !== 'special';
  if (close < open || !name.every(isPlain) || !behind.every(({ kind }) => kind === 'comment'))
    return undefined;
  return fromSpec(tokens.slice(open + 1, close), [...name, ...behind]);
}

function fromSpec(spec: readonly Token[], text: readonly Token[]): Mailbox | undefined {
  const [local, at, host] = spec;
  if (spec.length !== 3 || !isSpecial(at!, '@') || host!.kind !== 'word') return undefined;
  // Neither a blank nor a comment stands inside an address.
  if (local!.end !== at!.start || at!.end !== host!.start) return undefined;
  const localPart = localPartOf(local!);
  const domain = normalizeDomain(host!.text);
  if (localPart === undefined || domain === undefined) return undefined;
  return { address: `${localPart}@${domain}`, domain, text: text.map((token) => token.text).join(' ') };
}

function localPartOf(token: Token): string | undefined {
  // RFC 5321 §4.5.3.1.1: 64 octets.
  if (token.text === '' || Buffer.byteLength(token.text) > 64) return undefined;
  // `"a@evil.test"@reef.test` is an address by the RFC and another one to a hasty reader.
  if (/[@<>,;:]/.test(token.text)) return undefined;
  if (token.kind === 'quoted') return `"${token.text.replace(/["\\]/g, '\\$&')}"`;
  if (token.kind !== 'word' || /^\.|\.\.|\.$/.test(token.text)) return undefined;
  // An encoded word is no address (RFC 2047 §5), but some programs would show it decoded.
  return token.text.includes('=?') ? undefined : token.text;
}

function isSpecial(token: Token, text: string): boolean {
  return token.kind === 'special' && token.text === text;
}
