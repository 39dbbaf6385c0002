/**
 * Delivery status notifications (RFC 3464 in RFC 6522's three parts): a message failed, waits, or went on
 * to a server that reports no success itself.
 *
 * For people first: what happened, the peer's own words, what to do. Then the same for programs, and the
 * header of the message, or all of it where the sender asked (RET=FULL) and it is not too long. The peer's
 * diagnostic is verbatim; what 7-bit fields cannot hold of it is written as `\x{…}` (RFC 6533 §3), so
 * nothing of it is lost.
 *
 * Made from what is given: whether a DSN is due, and to whom it goes, is decided by bounce.ts.
 */
import { isAscii } from 'node:buffer';
import MimeNode from 'nodemailer/lib/mime-node';
import { mailDate } from '../mail-date.ts';

/** RFC 3464 §2.3.3. */
export type DsnAction = 'failed' | 'delayed' | 'relayed';

export type DsnReport = {
  action: DsnAction;
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
  /** Unix ms until which it is tried; of a delay. */
  retryUntil?: number;
  /** What the member gave: ENVID and ORCPT (RFC 3461 §4.2, §4.4), decoded. */
  envid?: string;
  orcpt?: string;
  /** Return the whole message, not only its header: where it is at most 256 KiB and RFC 5322 holds for its lines. */
  returnFull?: boolean;
  /** The message as it went out, or its beginning. */
  original: Buffer;
};

const maxReturnedHeader = 32 * 1024;
const maxReturned = 256 * 1024;

/** Octets from the beginning of a body that are enough to compose a DSN; with one more it shows that it is cut. */
export function octetsFor({ returnFull }: Pick<DsnReport, 'returnFull'>): number {
  return (returnFull ? maxReturned : maxReturnedHeader) + 1;
}

/** RFC 5322 §2.1.1 allows 998 octets a line; a huge reply is folded well before. */
const maxLine = 400;

const subjects: Record<DsnAction, string> = {
  failed: 'Not delivered: mail to',
  delayed: 'Not delivered yet: mail to',
  relayed: 'Handed on: mail to',
};

/** @returns the whole DSN, lines ended by CR LF, unsigned */
export async function composeDsn(report: DsnReport): Promise<Buffer> {
  const header = headerOf(report.original);
  const isFull = report.returnFull === true && isReturnable(report.original, header);
  const root = new MimeNode('multipart/report; report-type=delivery-status', { newline: 'windows' });
  root.setHeader([
    { key: 'From', value: { name: 'Mail Delivery', address: report.from } },
    { key: 'To', value: report.to },
    { key: 'Subject', value: `${subjects[report.action]} ${report.recipient}` },
    { key: 'Date', value: mailDate(report.now) },
    // RFC 3834 §5: nobody's vacation notice answers this.
    { key: 'Auto-Submitted', value: 'auto-replied' },
    ...replyTo(header),
  ]);
  root.createChild('text/plain; charset=utf-8').setContent(explanation(report));
  root.createChild('message/delivery-status').setContent(statusFields(report));
  if (isFull) returnMessage(root, report.original);
  else returnHeader(root, header);
  return root.build();
}

function explanation(report: DsnReport): string {
  const lines = [opening(report), '', `What happened: ${report.summary}`];
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

function opening({ action, recipient, retryUntil }: DsnReport): string {
  const until = retryUntil === undefined ? '' : ` until ${new Date(retryUntil).toISOString()} at the latest`;
  switch (action) {
    case 'failed':
      return `Your message to ${recipient} could not be delivered, and will not be tried again.`;
    case 'delayed':
      return `Your message to ${recipient} could not be delivered yet. It is tried again${until}.`;
    case 'relayed':
      return `Your message to ${recipient} was taken by its mail server, which reports no delivery itself.`;
  }
}

function nextStep({ action, status, reply }: DsnReport): string {
  if (action === 'delayed') return 'Nothing need be done. If it fails for good, you hear of it.';
  if (action === 'relayed') return 'No further report follows unless it fails.';
  if (/^5\.1\./.test(status)) return 'Check the address; if it is right, ask the recipient another way.';
  if (/^\d\.2\./.test(status)) return 'The mailbox cannot take mail now; reach the recipient another way.';
  if (reply)
    return 'The words above are the destination’s. If they are not clear, its postmaster can explain.';
  return 'Send it again later; if it fails again, write to your cooperative.';
}

/** RFC 3464 §2: a group about the message, an empty line, a group about the recipient. */
function statusFields(report: DsnReport): string {
  const { envid, orcpt, retryUntil } = report;
  const message = [
    ...(envid ? [`Original-Envelope-Id: ${folded(oneLine(envid))}`] : []),
    `Reporting-MTA: dns; ${report.reportingMta}`,
    `X-Atmos-Id: ${report.queueId}`,
    `Arrival-Date: ${mailDate(report.receivedAt)}`,
  ];
  const recipient = [
    ...(orcpt ? [`Original-Recipient: ${folded(oneLine(orcpt))}`] : []),
    `Final-Recipient: ${typedAddress(report.recipient)}`,
    `Action: ${report.action}`,
    `Status: ${report.status}`,
    ...(report.remoteMta ? [`Remote-MTA: dns; ${oneLine(report.remoteMta)}`] : []),
    ...(report.reply ? [`Diagnostic-Code: smtp; ${folded(report.reply)}`] : []),
    `Last-Attempt-Date: ${mailDate(report.lastAttemptAt)}`,
    ...(report.action === 'delayed' && retryUntil !== undefined
      ? [`Will-Retry-Until: ${mailDate(retryUntil)}`]
      : []),
  ];
  return [...message, '', ...recipient, ''].join('\r\n');
}

/** RFC 2046 §5.2.1: as it is, or not at all; a header in UTF-8 would ask more of the way back than 8 bits. */
function isReturnable(message: Buffer, header: Buffer): boolean {
  return message.length <= maxReturned && isAscii(header) && !/[^\n]{999}/.test(message.toString('latin1'));
}

function returnMessage(root: MimeNode, message: Buffer): void {
  const encoding = isAscii(message) ? '7bit' : '8bit';
  // RFC 2045 §6.4: what is around it must say so too.
  if (encoding === '8bit') root.setHeader('Content-Transfer-Encoding', '8bit');
  const own = `Content-Type: message/rfc822\r\nContent-Transfer-Encoding: ${encoding}\r\n\r\n`;
  root.createChild().setRaw(Buffer.concat([Buffer.from(own), message]));
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
