/**
 * The notice that a message could not be delivered (RFC 3464 in RFC 6522's three parts).
 *
 * For people first: what happened, the peer's own words, what to do. Then the same for programs, and the
 * header of the message. The peer's diagnostic is verbatim; what 7-bit fields cannot hold of it is written
 * as `\x{…}` (RFC 6533 §3), so nothing of it is lost.
 *
 * Made from what is given: whether a DSN is due, and to whom it goes, is decided by bounce.ts.
 */
import { isAscii } from 'node:buffer';
import MimeNode from 'nodemailer/lib/mime-node';
import { mailDate } from '../mail-date.ts';

export type FailureReport = {
  /** Our host name: Reporting-MTA. */
  reportingMta: string;
  /** Header From and To of the DSN. */
  from: string;
  to: string;
  queueId: string;
  /** Unix ms. */
  receivedAt: number;
  now: number;
  recipient: string;
  /** RFC 3463 status. */
  status: string;
  /** One line: what happened. */
  summary: string;
  /** The peer's reply as it came; absent when it gave none. */
  reply?: string;
  /** Mail exchanger that was spoken to last. */
  remoteMta?: string;
  lastAttemptAt: number;
  /** The message as it went out, or its beginning: everything up to the empty line is returned. */
  original: Buffer;
};

const maxReturnedHeader = 32 * 1024;
/** RFC 5322 §2.1.1 allows 998 octets a line; a huge reply is folded well before. */
const maxLine = 400;

/** @returns the whole DSN, lines ended by CR LF, unsigned */
export async function composeDsn(report: FailureReport): Promise<Buffer> {
  const header = headerOf(report.original);
  const root = new MimeNode('multipart/report; report-type=delivery-status', { newline: 'windows' });
  root.setHeader([
    { key: 'From', value: { name: 'Mail Delivery', address: report.from } },
    { key: 'To', value: report.to },
    { key: 'Subject', value: `Not delivered: mail to ${report.recipient}` },
    { key: 'Date', value: mailDate(report.now) },
    // RFC 3834 §5: nobody's vacation notice answers this.
    { key: 'Auto-Submitted', value: 'auto-replied' },
    ...replyTo(header),
  ]);
  root.createChild('text/plain; charset=utf-8').setContent(explanation(report));
  root.createChild('message/delivery-status').setContent(statusFields(report));
  returnHeader(root, header);
  return root.build();
}

function explanation(report: FailureReport): string {
  const lines = [
    `Your message to ${report.recipient} could not be delivered, and will not be tried again.`,
    '',
    `What happened: ${report.summary}`,
  ];
  if (report.reply) {
    lines.push('', `${report.remoteMta ?? 'The destination'} said:`, '', ...indented(report.reply));
  }
  lines.push(
    '',
    nextStep(report),
    '',
    `Queue id ${report.queueId}, accepted ${new Date(report.receivedAt).toISOString()}.`,
  );
  return `${lines.join('\r\n')}\r\n`;
}

function nextStep({ status, reply }: FailureReport): string {
  if (/^5\.1\./.test(status)) return 'Check the address; if it is right, ask the recipient another way.';
  if (/^\d\.2\./.test(status)) return 'The mailbox cannot take mail now; reach the recipient another way.';
  if (reply)
    return 'The words above are the destination’s. If they are not clear, its postmaster can explain.';
  return 'Send it again later; if it fails again, write to your cooperative.';
}

/** RFC 3464 §2: a group about the message, an empty line, a group about the recipient. */
function statusFields(report: FailureReport): string {
  const message = [
    `Reporting-MTA: dns; ${report.reportingMta}`,
    `X-Atmos-Id: ${report.queueId}`,
    `Arrival-Date: ${mailDate(report.receivedAt)}`,
  ];
  const recipient = [
    `Final-Recipient: ${typedAddress(report.recipient)}`,
    'Action: failed',
    `Status: ${report.status}`,
    ...(report.remoteMta ? [`Remote-MTA: dns; ${oneLine(report.remoteMta)}`] : []),
    ...(report.reply ? [`Diagnostic-Code: smtp; ${folded(report.reply)}`] : []),
    `Last-Attempt-Date: ${mailDate(report.lastAttemptAt)}`,
  ];
  return [...message, '', ...recipient, ''].join('\r\n');
}

/** As it is while mail can carry it so: programs search it. Otherwise nodemailer encodes it. */
function returnHeader(root: MimeNode, header: Buffer): void {
  if (!isAscii(header) || /[^\n]{999}/.test(header.toString('latin1'))) {
    root.createChild('text/rfc822-headers; charset=utf-8').setContent(header);
    return;
  }
  const own = 'Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n';
  root.createChild().setRaw(Buffer.concat([Buffer.from(own), header]));
}

/** The header with its last line end, cut between lines when it is very long. */
function headerOf(message: Buffer): Buffer {
  const end = message.indexOf('\r\n\r\n');
  const header = end === -1 ? message : message.subarray(0, end + 2);
  if (header.length <= maxReturnedHeader) return header;
  const lastLine = header.lastIndexOf('\r\n', maxReturnedHeader - 2);
  return lastLine === -1 ? Buffer.alloc(0) : header.subarray(0, lastLine + 2);
}

/** Threads the DSN to the message in the reader's mail program. */
function replyTo(header: Buffer): { key: string; value: string }[] {
  const [, id] = /^Message-ID:\s*(<[^<>\s]{1,250}>)\s*$/im.exec(header.toString('latin1')) ?? [];
  if (!id) return [];
  return [
    { key: 'In-Reply-To', value: id },
    { key: 'References', value: id },
  ];
}

/** RFC 6533 §3: the type `utf-8` with its 7-bit form where ASCII does not suffice. */
function typedAddress(address: string): string {
  const type = Buffer.byteLength(address) === address.length ? 'rfc822' : 'utf-8';
  return `${type}; ${asciiOnly(oneLine(address))}`;
}

/** Continuation lines of the reply become folded lines of the field; unfolding gives the reply back. */
function folded(reply: string): string {
  return linesOf(reply)
    .map(asciiOnly)
    .flatMap((line) => line.match(new RegExp(`.{1,${maxLine}}`, 'g')) ?? [])
    .join('\r\n ');
}

function indented(reply: string): string[] {
  return linesOf(reply).map((line) => `    ${line}`);
}

function linesOf(reply: string): string[] {
  return reply.split(/\r\n|\r|\n/).filter((line) => line.trim() !== '');
}

function asciiOnly(text: string): string {
  return Array.from(text, (char) => {
    const code = char.codePointAt(0)!;
    if (code > 126) return `\\x{${code.toString(16).toUpperCase()}}`;
    return code < 32 ? ' ' : char;
  }).join('');
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]+/g, ' ');
}
