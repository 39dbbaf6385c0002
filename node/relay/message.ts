/**
 * A message as bytes: where its header fields begin and end, and nothing more.
 *
 * Promise: parsing changes no byte; what is cut out is whole header fields, what follows the header is
 * never looked into. Every fault that could make two programs read two different messages is named and
 * refused here, before the message is signed: stray CR and LF, a line that is too long and would be cut, a
 * folded line of nothing but blanks, a blank before the colon, a field that must stand once standing twice.
 */

export type HeaderField = {
  /** Lower case. */
  name: string;
  /** Where the field begins, and the octet after its last CR LF. */
  start: number;
  end: number;
  /** Where the value begins, behind the colon. */
  valueStart: number;
};

export type Message = {
  bytes: Buffer;
  fields: HeaderField[];
  /** Where the header ends: the empty line and the body follow, or nothing. */
  headerEnd: number;
};

/** With a fault the fields are those that were read before it, so that others than this file may look at them. */
export type Parsed =
  | { kind: 'message'; message: Message }
  | { kind: 'fault'; what: string; message: Message };

const maxFields = 1000;
const maxHeaderBytes = 256 * 1024;
/** RFC 5322 §2.1.1, without the CR LF. */
const maxLineBytes = 998;
const cr = 0x0d;
const lf = 0x0a;

/** RFC 5322 §3.6, and RFC 2045 for the fields that say how to read the body. */
const atMostOnce = [
  'from',
  'sender',
  'reply-to',
  'to',
  'cc',
  'subject',
  'date',
  'message-id',
  'in-reply-to',
  'references',
  'mime-version',
  'content-type',
  'content-transfer-encoding',
];

/**
 * @param bytes a whole message with CR LF line ends, as between DATA and the final dot
 * @param o.isClean true when the octets were found to have no stray CR, LF or NUL as they came
 */
export function parseMessage(bytes: Buffer, o: { isClean?: boolean | undefined } = {}): Parsed {
  const message: Message = { bytes, fields: [], headerEnd: 0 };
  const headerFault = readHeader(message);
  const what = (o.isClean ? undefined : strayOctet(bytes)) ?? headerFault ?? longLine(bytes);
  return what === undefined ? { kind: 'message', message } : { kind: 'fault', what, message };
}

/** Blanks around it taken off and folds undone (RFC 5322 §2.2.3); octets that are not UTF-8 come out as U+FFFD. */
export function fieldValue(message: Message, field: HeaderField): string {
  return message.bytes.toString('utf8', field.valueStart, field.end).replaceAll('\r\n', '').trim();
}

export function fieldsNamed(fields: readonly HeaderField[], name: string): HeaderField[] {
  return fields.filter((field) => field.name === name);
}

/** The message without some of its fields; every other byte as it was. */
export function withoutFields(message: Message, isRemoved: (name: string) => boolean): Buffer {
  const kept: Buffer[] = [];
  let from = 0;
  for (const field of message.fields) {
    if (!isRemoved(field.name)) continue;
    kept.push(message.bytes.subarray(from, field.start));
    from = field.end;
  }
  return from === 0 ? message.bytes : Buffer.concat([...kept, message.bytes.subarray(from)]);
}

/** @returns what is wrong with the header */
function readHeader(message: Message): string | undefined {
  const { bytes, fields } = message;
  while (message.headerEnd < bytes.length && bytes[message.headerEnd] !== cr) {
    const at = message.headerEnd;
    const end = bytes.indexOf('\r\n', at) + 2;
    if (end === 1) return 'The last line of the header has no CR LF.';
    if (end > maxHeaderBytes) return `The header is longer than ${maxHeaderBytes} octets.`;
    const what = addLine(bytes, fields, at, end);
    if (what) return `Header line ${lineNumber(bytes, at)}: ${what}`;
    message.headerEnd = end;
  }
  const repeated = atMostOnce.find((name) => fieldsNamed(fields, name).length > 1);
  return repeated && `The header field ${repeated} stands more than once.`;
}

/** Asks only where the last line end within each 1,000 octets is, not where every line ends. */
function longLine(bytes: Buffer): string | undefined {
  let start = 0;
  while (bytes.length - start > maxLineBytes) {
    const end = bytes.lastIndexOf(lf, start + maxLineBytes + 1);
    if (end < start)
      return `Line ${lineNumber(bytes, start)} is longer than ${maxLineBytes} octets (RFC 5322 §2.1.1).`;
    start = end + 1;
  }
  return undefined;
}

/** @returns what is wrong with the line; else the line is now part of `fields` */
function addLine(bytes: Buffer, fields: HeaderField[], start: number, end: number): string | undefined {
  const text = bytes.subarray(start, end - 2);
  if (text[0] === 0x20 || text[0] === 0x09) {
    const last = fields.at(-1);
    if (!last) return 'the header begins with a continuation line.';
    // Some programs take such a line for the end of the header: RFC 5322 §3.2.2 forbids to make one.
    if (text.every((octet) => octet === 0x20 || octet === 0x09)) return 'a folded line is blank.';
    last.end = end;
    return undefined;
  }
  const colon = text.indexOf(':');
  if (colon < 1 || text.subarray(0, colon).some((octet) => octet < 33 || octet > 126))
    return 'a field name and a colon are expected.';
  if (fields.length === maxFields) return `there are more than ${maxFields} fields.`;
  const name = text.toString('latin1', 0, colon).toLowerCase();
  fields.push({ name, start, end, valueStart: start + colon + 1 });
  return undefined;
}

function strayOctet(bytes: Buffer): string | undefined {
  const line = strayOctetLine(bytes);
  return line === 0 ? undefined : `Line ${line} has a CR or LF that is not part of a CR LF pair, or a NUL.`;
}

/** @returns the number of the line, from 1, or 0 when all is well */
function strayOctetLine(bytes: Buffer): number {
  for (let at = bytes.indexOf(cr); at !== -1; at = bytes.indexOf(cr, at + 1)) {
    if (bytes[at + 1] !== lf) return lineNumber(bytes, at);
  }
  for (let at = bytes.indexOf(lf); at !== -1; at = bytes.indexOf(lf, at + 1)) {
    if (bytes[at - 1] !== cr) return lineNumber(bytes, at);
  }
  const nul = bytes.indexOf(0);
  return nul === -1 ? 0 : lineNumber(bytes, nul);
}

function lineNumber(bytes: Buffer, offset: number): number {
  let lines = 1;
  for (let at = bytes.indexOf('\r\n'); at !== -1 && at < offset; at = bytes.indexOf('\r\n', at + 2))
    lines += 1;
  return lines;
}
