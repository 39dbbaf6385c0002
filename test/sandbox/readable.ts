/**
 * A message as a person reads it: header fields with their encoded words decoded, and its plain text.
 *
 * For display only, so it never fails: what it does not understand stays as it is. HTML is never
 * returned as text. Bounded: it reads the first `maxBytes`, `maxParts` parts, `maxDepth` levels.
 */
import { parseHeaderValue } from 'nodemailer/lib/mime-funcs';

export type Field = { name: string; value: string };

export type ReadableMessage = {
  fields: Field[];
  /** The first text/plain part, decoded. */
  text?: string;
};

const maxBytes = 1024 * 1024;
const maxParts = 100;
const maxDepth = 8;

export function readMessage(raw: Buffer): ReadableMessage {
  // latin1 keeps each byte as one character until the part's own charset is known.
  const { fields, body } = split(raw.subarray(0, maxBytes).toString('latin1'));
  const text = plainText(fields, body, { depth: 0, parts: { left: maxParts } });
  const decoded = fields.map(({ name, value }) => ({ name, value: decodeWords(value) }));
  return text === undefined ? { fields: decoded } : { fields: decoded, text };
}

/** The first field of that name, without regard to case; '' when there is none. */
export function fieldOf(fields: Field[], name: string): string {
  return fields.find((field) => field.name.toLowerCase() === name)?.value ?? '';
}

function split(source: string): { fields: Field[]; body: string } {
  const end = /^\r?\n|\r?\n\r?\n/.exec(source);
  const header = end ? source.slice(0, end.index) : source;
  const body = end ? source.slice(end.index + end[0].length) : '';
  const lines = header.replace(/\r?\n(?=[ \t])/g, '').split(/\r?\n/);
  const fields = lines.flatMap((line) => {
    const colon = line.indexOf(':');
    return colon > 0 ? [{ name: line.slice(0, colon).trim(), value: line.slice(colon + 1).trim() }] : [];
  });
  return { fields, body };
}

type Bounds = { depth: number; parts: { left: number } };

function plainText(fields: Field[], body: string, bounds: Bounds): string | undefined {
  bounds.parts.left -= 1;
  if (bounds.depth > maxDepth || bounds.parts.left < 0) return undefined;
  const { value: type, params } = parseHeaderValue(fieldOf(fields, 'content-type') || 'text/plain');
  if (type.toLowerCase().startsWith('multipart/') && params.boundary) {
    for (const part of partsOf(body, params.boundary)) {
      const { fields: own, body: inner } = split(part);
      const text = plainText(own, inner, { ...bounds, depth: bounds.depth + 1 });
      if (text !== undefined) return text;
    }
    return undefined;
  }
  if (type.toLowerCase() !== 'text/plain') return undefined;
  const bytes = decodeBody(body, fieldOf(fields, 'content-transfer-encoding').toLowerCase());
  return decodeCharset(bytes, params.charset ?? 'utf-8');
}

/** RFC 2046 §5.1.1: what stands before the first delimiter and after the last is no part. */
function partsOf(body: string, boundary: string): string[] {
  const delimiter = new RegExp(`(?:^|\\r?\\n)--${RegExp.escape(boundary)}(--)?[ \\t]*(?=\\r?\\n|$)`, 'g');
  const parts: string[] = [];
  let from: number | undefined;
  for (const match of body.matchAll(delimiter)) {
    if (from !== undefined) parts.push(body.slice(from, match.index).replace(/^\r?\n/, ''));
    from = match[1] ? undefined : match.index + match[0].length;
    if (match[1] || parts.length >= maxParts) break;
  }
  if (from !== undefined) parts.push(body.slice(from).replace(/^\r?\n/, ''));
  return parts;
}

function decodeBody(body: string, encoding: string): Buffer {
  if (encoding === 'base64') return Buffer.from(body, 'base64');
  if (encoding !== 'quoted-printable') return Buffer.from(body, 'latin1');
  return decodeEscapes(body.replace(/[ \t]+(?=\r?\n)/g, '').replace(/=\r?\n/g, ''));
}

/** `=E2` and the like, of quoted-printable and of the Q encoding. */
function decodeEscapes(text: string): Buffer {
  const bytes = text.replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1');
}

/** RFC 2047; raw UTF-8 (RFC 6532) passes. */
function decodeWords(value: string): string {
  const utf8 = Buffer.from(value, 'latin1').toString('utf8');
  const joined = utf8.replace(/(\?=)\s+(?==\?)/g, '$1');
  return joined.replace(
    /=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?\s]*)\?=/gi,
    (_, charset: string, encoding: string, content: string) =>
      decodeCharset(
        encoding.toLowerCase() === 'b'
          ? Buffer.from(content, 'base64')
          : decodeEscapes(content.replaceAll('_', ' ')),
        charset,
      ),
  );
}

function decodeCharset(bytes: Buffer, charset: string): string {
  try {
    return new TextDecoder(charset).decode(bytes);
  } catch {
    return bytes.toString('latin1');
  }
}
