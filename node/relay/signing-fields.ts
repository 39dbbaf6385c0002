/**
 * The header of a message as DKIM signs it: which fields, in which order, canonicalized `relaxed`
 * (RFC 6376 §3.4.2), and the DKIM-Signature line itself.
 *
 * Promise: a field of `oversigned` is named once more than it stands there, so that adding another one
 * breaks the signature (§8.15). Octets are latin1 characters here, so every octet is kept.
 * Folds are whole: admission refused stray CR and LF.
 */

/** What a reader looks at first, or answers to. */
const oversigned: ReadonlySet<string> = new Set([
  'from',
  'to',
  'cc',
  'subject',
  'date',
  'reply-to',
  'message-id',
]);

/** What a reader relies on, and what is ours (RFC 6376 §5.4.1, RFC 8058 §4, RFC 5518 §7.1). */
const signed = [
  ...['From', 'Sender', 'Reply-To', 'To', 'Cc', 'Subject', 'Date', 'Message-ID', 'In-Reply-To', 'References'],
  ...['MIME-Version', 'Content-Type', 'Content-Transfer-Encoding', 'Content-Disposition'],
  ...['Content-Description', 'Content-Language', 'Content-ID'],
  ...['List-Id', 'List-Help', 'List-Owner', 'List-Post', 'List-Archive', 'List-Subscribe'],
  ...['List-Unsubscribe', 'List-Unsubscribe-Post', 'Auto-Submitted', 'Feedback-ID', 'VBR-Info'],
  ...['X-Atmos-Id', 'X-Atmos-Member-Did'],
].map((name) => ({ name, key: name.toLowerCase(), isOversigned: oversigned.has(name.toLowerCase()) }));
const isSigned: ReadonlySet<string> = new Set(signed.map(({ key }) => key));

/** Canonical lines of the fields that are signed, by lower-case name, the lowest in the message first. */
export type Fields = ReadonlyMap<string, readonly string[]>;

/** @param header whole fields, each ended by CR LF, or nothing; latin1 */
export function fieldsOf(header: string): Fields {
  const fields = new Map<string, string[]>();
  for (let at = 0; at < header.length; ) {
    const end = endOfField(header, at);
    const colon = header.indexOf(':', at);
    const key = colon === -1 || colon > end ? '' : nameIn(header, at, colon);
    if (isSigned.has(key)) {
      const line = `${key}:${relaxed(header.slice(colon + 1, end))}\r\n`;
      const lines = fields.get(key);
      if (lines) lines.unshift(line);
      else fields.set(key, [line]);
    }
    at = end + 2;
  }
  return fields;
}

/** `h=` and what it stands for. */
export type SignedHeader = { names: string; text: string };

/**
 * @param upper our own lines; @param lower the member's header below them
 * @returns undefined when there is not exactly one From (RFC 5322 §3.6)
 */
export function signedHeader(upper: Fields, lower: Fields): SignedHeader | undefined {
  const names: string[] = [];
  let text = '';
  let froms = 0;
  for (const { name, key, isOversigned } of signed) {
    for (const lines of [lower.get(key), upper.get(key)]) {
      for (const line of lines ?? []) {
        names.push(name);
        text += line;
        if (key === 'from') froms += 1;
      }
    }
    if (isOversigned) names.push(name);
  }
  return froms === 1 ? { names: foldedNames(names), text } : undefined;
}

export type SignatureTags = {
  algorithm: 'rsa' | 'ed25519';
  domain: string;
  selector: string;
  /** `t=` and `x=`, Unix seconds. */
  at: number;
  expiresAt: number;
  bodyHash: string;
};

/** @returns the field up to and with its `b=`, folded, without CR LF at the end */
export function unsignedLine(o: SignatureTags, names: string): string {
  return (
    `DKIM-Signature: v=1; a=${o.algorithm}-sha256; c=relaxed/relaxed; d=${o.domain};\r\n` +
    ` s=${o.selector}; t=${o.at}; x=${o.expiresAt};\r\n h=${names};\r\n bh=${o.bodyHash};\r\n b=`
  );
}

/** @param unsigned as unsignedLine() made it: its folds are single blanks, and its name ends at `: ` */
export function canonicalLine(unsigned: string): string {
  return `dkim-signature:${unsigned.slice('DKIM-Signature: '.length).replaceAll('\r\n ', ' ')}`;
}

const base64Column = 72;

/** @returns the whole field, ended by CR LF */
export function signedLine(unsigned: string, signature: Buffer): string {
  const text = signature.toString('base64');
  let line = unsigned + text.slice(0, base64Column);
  for (let at = base64Column; at < text.length; at += base64Column)
    line += `\r\n ${text.slice(at, at + base64Column)}`;
  return `${line}\r\n`;
}

function endOfField(header: string, start: number): number {
  for (let at = header.indexOf('\r\n', start); at !== -1; at = header.indexOf('\r\n', at + 2)) {
    if (!isBlank(header.charCodeAt(at + 2))) return at;
  }
  return header.length;
}

function nameIn(header: string, start: number, colon: number): string {
  let end = colon;
  while (end > start && isBlank(header.charCodeAt(end - 1))) end -= 1;
  return header.slice(start, end).toLowerCase();
}

function relaxed(value: string): string {
  // Most values are their own canonical form but for the blank before them.
  const text = foldOrNeedless.test(value) ? value.replaceAll('\r\n', '').replace(/[ \t]+/g, ' ') : value;
  return text.slice(text.startsWith(' ') ? 1 : 0, text.endsWith(' ') ? -1 : undefined);
}
const foldOrNeedless = /[\r\t]| {2}/;

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** RFC 6376 §3.5: blanks may stand after a colon of `h=`; a folded line stays below 78 octets. */
function foldedNames(names: readonly string[]): string {
  let text = '';
  let column = 3;
  for (const [index, name] of names.entries()) {
    if (column + name.length > 74) {
      text += '\r\n ';
      column = 1;
    }
    const part = index + 1 === names.length ? name : `${name}:`;
    text += part;
    column += part.length;
  }
  return text;
}
