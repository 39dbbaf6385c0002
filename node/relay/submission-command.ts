/**
 * MAIL and RCPT as octets: the path, and the parameters that the answer to EHLO lists.
 *
 * Promise: what is not offered, not well-formed, too long or said twice is refused with its catalogue entry;
 * nothing is guessed and nothing dropped. Whether an address may be used is admission.ts's question.
 *
 * SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), REQUIRETLS (RFC 8689), AUTH (RFC 4954 §5),
 * RET and ENVID, NOTIFY and ORCPT (RFC 3461 §4).
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { type ErrorCode, type Problem, problem } from '../errors.ts';
import type { Notify } from '../spool/message.ts';
import { parseAddress } from './mailbox.ts';

export type MailCommand = {
  kind: 'mail';
  /** As written; '' is the null sender. */
  address: string;
  /** Declared octets. */
  size?: number;
  smtpUtf8: boolean;
  requireTls: boolean;
  ret?: 'full' | 'hdrs';
  /** xtext decoded. */
  envid?: string;
};

export type RcptCommand = {
  kind: 'rcpt';
  address: string;
  notify?: Notify[];
  /** `type;address`, the address xtext decoded. */
  orcpt?: string;
};

export type Malformed = { kind: 'malformed'; problem: Problem };

type Parameters = Map<string, string | undefined>;

/** RFC 3461 §4.4: 100 characters, encoded. §4.2: 500. */
const maxEnvid = 100;
const maxOrcpt = 500;
const notifies: readonly string[] = ['success', 'failure', 'delay', 'never'];

/** A quoted local part may hold what else would end the path. RFC 5321 §4.1.2 */
const path = /^<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>(?= |$)/su;
/** RFC 5321 §4.1.1.11, RFC 6531 §3.3: a value has neither blanks nor control characters nor `=`. */
const parameter = /^([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\u{10ffff}]+))?$/u;
/** To be ignored (RFC 5321 appendix F.2). */
const sourceRoute = /^@[^\s,:@]+(?:,@[^\s,:@]+)*:/u;

/** @param line the whole command without its line end */
export function parseMail(line: Buffer): MailCommand | Malformed {
  const read = readCommand(line, /^MAIL FROM: */i, 'MAIL FROM:<address>');
  if (read.kind === 'malformed') return read;
  const command: MailCommand = { kind: 'mail', address: read.address, smtpUtf8: false, requireTls: false };
  for (const [name, value] of read.parameters) {
    const wrong = mailParameter(command, name, value);
    if (wrong) return wrong;
  }
  if (!command.smtpUtf8 && !isAscii(Buffer.from(command.address)))
    return malformed('INVALID_REQUEST', 'An address beyond ASCII needs SMTPUTF8.');
  return command;
}

/** @param smtpUtf8 whether MAIL said SMTPUTF8 */
export function parseRcpt(line: Buffer, smtpUtf8: boolean): RcptCommand | Malformed {
  const read = readCommand(line, /^RCPT TO: */i, 'RCPT TO:<address>');
  if (read.kind === 'malformed') return read;
  if (read.address === '') return malformed('INVALID_RECIPIENT', 'It is empty.');
  const command: RcptCommand = { kind: 'rcpt', address: read.address };
  for (const [name, value] of read.parameters) {
    const wrong = rcptParameter(command, name, value, smtpUtf8);
    if (wrong) return wrong;
  }
  return command;
}

function readCommand(
  line: Buffer,
  verb: RegExp,
  expected: string,
): { kind: 'read'; address: string; parameters: Parameters } | Malformed {
  if (!isUtf8(line)) return malformed('INVALID_REQUEST', 'The command is not UTF-8.');
  const text = line.toString();
  const said = verb.exec(text);
  const rest = said ? text.slice(said[0].length).trimEnd() : '';
  const inBrackets = path.exec(rest);
  if (!inBrackets) return malformed('INVALID_REQUEST', `Expected ${expected}.`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f]/.test(rest))
    return malformed('INVALID_REQUEST', 'The command has a control character.');
  const parameters = readParameters(rest.slice(inBrackets[0].length));
  if (!(parameters instanceof Map)) return parameters;
  return { kind: 'read', address: inBrackets[1]!.replace(sourceRoute, ''), parameters };
}

function readParameters(text: string): Parameters | Malformed {
  const parameters: Parameters = new Map();
  if (text === '') return parameters;
  for (const word of text.split(' ')) {
    if (word === '') continue;
    const [, name, value] = parameter.exec(word) ?? [];
    if (name === undefined) return malformed('INVALID_REQUEST', `"${word.slice(0, 40)}" is no parameter.`);
    const key = name.toUpperCase();
    if (parameters.has(key)) return malformed('INVALID_REQUEST', `${key} is there twice.`);
    parameters.set(key, value);
  }
  return parameters;
}

function mailParameter(command: MailCommand, name: string, value: string | undefined): Malformed | undefined {
  switch (name) {
    case 'SIZE':
      if (!/^\d{1,20}$/.test(value ?? '')) return wrongValue(name);
      command.size = Number(value);
      return undefined;
    case 'BODY':
      if (value === undefined) return wrongValue(name);
      return /^(7BIT|8BITMIME)$/i.test(value) ? undefined : unsupported(`BODY=${value.slice(0, 20)}`);
    case 'SMTPUTF8':
      command.smtpUtf8 = true;
      return value === undefined ? undefined : wrongValue(name);
    case 'REQUIRETLS':
      command.requireTls = true;
      return value === undefined ? undefined : wrongValue(name);
    case 'AUTH':
      // RFC 4954 §5: an assertion that a submission server need not believe; it says nothing that we do not know.
      return isAuthIdentity(value) ? undefined : wrongValue(name);
    case 'RET':
      if (!/^(FULL|HDRS)$/i.test(value ?? '')) return wrongValue(name);
      command.ret = value!.toLowerCase() as 'full' | 'hdrs';
      return undefined;
    case 'ENVID': {
      const envid = value !== undefined && value.length <= maxEnvid ? decodeXtext(value) : undefined;
      // §4.4: printable ASCII.
      if (envid === undefined || !/^[ -~]+$/.test(envid)) return wrongValue(name);
      command.envid = envid;
      return undefined;
    }
    default:
      return unsupported(name);
  }
}

function rcptParameter(
  command: RcptCommand,
  name: string,
  value: string | undefined,
  smtpUtf8: boolean,
): Malformed | undefined {
  if (name === 'NOTIFY') {
    const notify = readNotify(value ?? '');
    if (!notify) return wrongValue(name);
    command.notify = notify;
    return undefined;
  }
  if (name === 'ORCPT') {
    const orcpt = value !== undefined && value.length <= maxOrcpt ? readOrcpt(value, smtpUtf8) : undefined;
    if (orcpt === undefined) return wrongValue(name);
    command.orcpt = orcpt;
    return undefined;
  }
  return unsupported(name);
}

/** §4.1: a list in any order, or NEVER alone. */
function readNotify(value: string): Notify[] | undefined {
  const words = value.toLowerCase().split(',');
  if (!words.every((word) => notifies.includes(word))) return undefined;
  if (words.includes('never') && words.length > 1) return undefined;
  return [...new Set(words as Notify[])];
}

/** §4.2: `addr-type ";" xtext`; RFC 6533 §3 adds `utf-8;…`, whose address may be written as it is. */
function readOrcpt(value: string, smtpUtf8: boolean): string | undefined {
  const [, type, encoded] = /^([A-Za-z0-9-]{1,64});(.+)$/su.exec(value) ?? [];
  if (type === undefined || encoded === undefined) return undefined;
  const isUnicode = smtpUtf8 && type.toLowerCase() === 'utf-8';
  const address = isUnicode && !isAscii(Buffer.from(encoded)) ? encoded : decodeXtext(encoded);
  if (address === undefined || !/^[ -~\u00a0-\u{10ffff}]+$/u.test(address)) return undefined;
  return `${type};${address}`;
}

function isAuthIdentity(value: string | undefined): boolean {
  if (value === '<>') return true;
  const decoded = value === undefined || value.length > maxOrcpt ? undefined : decodeXtext(value);
  return decoded !== undefined && parseAddress(decoded) !== undefined;
}

/** RFC 3461 §4. @returns undefined for what is not xtext, or decodes to octets beyond ASCII */
function decodeXtext(text: string): string | undefined {
  if (!/^(?:[!-*,-<>-~]|\+[0-9A-F]{2})+$/.test(text)) return undefined;
  const decoded = text.replace(/\+([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return isAscii(Buffer.from(decoded)) ? decoded : undefined;
}

function unsupported(what: string): Malformed {
  return malformed('UNSUPPORTED_PARAMETER', `${what} is not offered.`);
}

function wrongValue(name: string): Malformed {
  return malformed('INVALID_REQUEST', `The value of ${name} is wrong.`);
}

function malformed(code: ErrorCode, detail: string): Malformed {
  return { kind: 'malformed', problem: problem(code, detail) };
}
