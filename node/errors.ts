/**
 * Every error that a member, an operator or a sending program can meet, in one catalogue.
 *
 * Both protocols, the pages and the docs are made from these entries; code anywhere else names an
 * entry and never writes its own status or text. A code is never reused for another meaning.
 */

export type CatalogueEntry = {
  /** Stable; what programs compare. */
  code: ErrorCode;
  /** HTTP status. */
  http: number;
  /** SMTP reply code and RFC 3463 enhanced status. */
  smtp: { code: number; enhanced: string };
  /** One sentence: what happened. */
  text: string;
  /** One sentence: what to do next, and who can do it. */
  action: string;
  /** The same request may succeed later without a change. */
  retryable: boolean;
  /** Anchor in the error reference. */
  docs: string;
};

export type ErrorCode =
  | 'AUTH_REQUIRED'
  | 'AUTH_FAILED'
  | 'AUTH_BUSY'
  | 'AUTH_THROTTLED'
  | 'INVALID_DID'
  | 'DID_MISMATCH'
  | 'MEMBER_SUSPENDED'
  | 'MEMBER_HELD'
  | 'DOMAIN_MISMATCH'
  | 'RATE_LIMITED'
  | 'INVALID_REQUEST'
  | 'INVALID_MESSAGE'
  | 'INVALID_RECIPIENT'
  | 'MESSAGE_TOO_LARGE'
  | 'TOO_MANY_RECIPIENTS'
  | 'RECIPIENT_SUPPRESSED'
  | 'IDEMPOTENCY_CONFLICT'
  | 'NOT_CANCELLABLE'
  | 'NOT_REMOVABLE'
  | 'LINK_INVALID'
  | 'CONFIRMATION_LIMIT'
  | 'WEBHOOK_REFUSED'
  | 'PEER_REFUSED'
  | 'UNSUPPORTED_PARAMETER'
  | 'BAD_SEQUENCE'
  | 'TOO_MANY_CONNECTIONS'
  | 'QUEUE_FULL'
  | 'STORAGE_FAILED'
  | 'SIGNING_FAILED'
  | 'TLS_REQUIRED'
  | 'NO_SUCH_MAILBOX'
  | 'NOT_FOUND'
  | 'SESSION_TIMEOUT'
  | 'SHUTTING_DOWN'
  | 'INTERNAL_ERROR';

function entry(
  code: ErrorCode,
  http: number,
  smtp: string,
  text: string,
  action: string,
  retryable = false,
): CatalogueEntry {
  const [reply, enhanced] = smtp.split(' ') as [string, string];
  const docs = `errors#${code.toLowerCase().replaceAll('_', '-')}`;
  return { code, http, smtp: { code: Number(reply), enhanced }, text, action, retryable, docs };
}

export const catalogue: Readonly<Record<ErrorCode, CatalogueEntry>> = {
  AUTH_REQUIRED: entry(
    'AUTH_REQUIRED',
    400,
    '530 5.7.0',
    'Authentication is required.',
    'Send your DID and API key: AUTH PLAIN over SMTP, or X-Atmos-DID and Authorization: Bearer over HTTP.',
  ),
  AUTH_FAILED: entry(
    'AUTH_FAILED',
    401,
    '535 5.7.8',
    'Authentication failed.',
    'Check that the user is your DID or handle and the password is an API key of this cooperative.',
  ),
  AUTH_BUSY: entry(
    'AUTH_BUSY',
    503,
    '454 4.7.0',
    'Too many authentications are being checked at once.',
    'Try again in a few seconds.',
    true,
  ),
  AUTH_THROTTLED: entry(
    'AUTH_THROTTLED',
    429,
    '454 4.7.0',
    'Too many wrong logins came from this address.',
    'Wait some minutes, and check the API key that this program sends.',
    true,
  ),
  INVALID_DID: entry(
    'INVALID_DID',
    400,
    '501 5.5.4',
    'The DID is malformed.',
    'Send a full DID such as did:plc:ewvi7nxzyoun6zhxrhs64oiz.',
  ),
  DID_MISMATCH: entry(
    'DID_MISMATCH',
    403,
    '535 5.7.8',
    'The API key belongs to another DID.',
    'Send the DID for which the key was made.',
  ),
  MEMBER_SUSPENDED: entry(
    'MEMBER_SUSPENDED',
    403,
    '521 5.7.1',
    'This member may not send now.',
    'Read the reason in your account, or write to the cooperative.',
  ),
  MEMBER_HELD: entry(
    'MEMBER_HELD',
    503,
    '451 4.7.1',
    'Sending is on hold until somebody has looked at it.',
    'Read the reason in your account; the operator has been told. Nothing that was accepted is lost.',
    true,
  ),
  DOMAIN_MISMATCH: entry(
    'DOMAIN_MISMATCH',
    403,
    '550 5.1.0',
    'The From address is not in a domain that you enrolled here.',
    'Send from one of your enrolled domains, in MAIL FROM and in the From header, or enrol this one.',
  ),
  RATE_LIMITED: entry(
    'RATE_LIMITED',
    429,
    '451 4.7.1',
    'The sending cap for now is reached.',
    'Try again later; caps grow when the first 14 days of a domain are over.',
    true,
  ),
  INVALID_REQUEST: entry(
    'INVALID_REQUEST',
    400,
    '501 5.5.4',
    'The request is malformed.',
    'Correct the field that is named and send it again.',
  ),
  INVALID_MESSAGE: entry(
    'INVALID_MESSAGE',
    400,
    '550 5.6.0',
    'The message breaks RFC 5322.',
    'Correct what is named; lines end with CR LF, and From stands exactly once.',
  ),
  INVALID_RECIPIENT: entry(
    'INVALID_RECIPIENT',
    400,
    '553 5.1.3',
    'The recipient address is malformed.',
    'Correct the address.',
  ),
  MESSAGE_TOO_LARGE: entry(
    'MESSAGE_TOO_LARGE',
    413,
    '552 5.3.4',
    'The message is larger than this relay takes.',
    'Send a smaller message, or a link in place of the attachment.',
  ),
  TOO_MANY_RECIPIENTS: entry(
    'TOO_MANY_RECIPIENTS',
    400,
    '452 4.5.3',
    'Too many recipients in one message.',
    'Send the rest in a message of its own.',
  ),
  RECIPIENT_SUPPRESSED: entry(
    'RECIPIENT_SUPPRESSED',
    403,
    '550 5.7.1',
    'The recipient is on your suppression list.',
    'Look at the entry and its evidence in your account. What came from a bounce, or from you, you can remove.',
  ),
  IDEMPOTENCY_CONFLICT: entry(
    'IDEMPOTENCY_CONFLICT',
    409,
    '550 5.5.4',
    'This Idempotency-Key was used for another request within the last 24 hours.',
    'Use a new key for a new request; send a repeated request unchanged.',
  ),
  NOT_CANCELLABLE: entry(
    'NOT_CANCELLABLE',
    409,
    '550 5.5.1',
    'The message is not scheduled any more.',
    'Look at its timeline: it was sent, is being sent, or was cancelled before.',
  ),
  NOT_REMOVABLE: entry(
    'NOT_REMOVABLE',
    409,
    '550 5.7.1',
    'The recipient itself asked for no more mail of yours, so you cannot remove that.',
    'If it was a mistake, ask the cooperative: an operator can remove it, with a reason.',
  ),
  LINK_INVALID: entry(
    'LINK_INVALID',
    404,
    '550 5.5.4',
    'This link is not valid, or was used before.',
    'Ask for a new one where you got it.',
  ),
  CONFIRMATION_LIMIT: entry(
    'CONFIRMATION_LIMIT',
    429,
    '451 4.7.1',
    'Enough confirmation mails were sent for now.',
    'Wait until tomorrow, or have the owner of the address follow the link of the last one.',
    true,
  ),
  WEBHOOK_REFUSED: entry(
    'WEBHOOK_REFUSED',
    400,
    '550 5.5.4',
    'This address cannot be a webhook.',
    'Give an https address that the public internet reaches.',
  ),
  PEER_REFUSED: entry(
    'PEER_REFUSED',
    409,
    '550 5.7.1',
    'This was not done with the peer.',
    'Read what is wrong; where it is on their side, ask the operator of the peer.',
  ),
  UNSUPPORTED_PARAMETER: entry(
    'UNSUPPORTED_PARAMETER',
    400,
    '555 5.5.4',
    'A parameter of MAIL or RCPT is not one that this server offers.',
    'Use only what the answer to EHLO lists.',
  ),
  BAD_SEQUENCE: entry(
    'BAD_SEQUENCE',
    400,
    '503 5.5.1',
    'The command has no place here.',
    'Say EHLO, log in, then MAIL, RCPT and DATA, in this order.',
  ),
  TOO_MANY_CONNECTIONS: entry(
    'TOO_MANY_CONNECTIONS',
    429,
    '421 4.7.0',
    'Too many connections are open at once.',
    'Close some, or send more messages over each.',
    true,
  ),
  QUEUE_FULL: entry('QUEUE_FULL', 503, '451 4.4.2', 'The queue is full.', 'Try again in some minutes.', true),
  STORAGE_FAILED: entry(
    'STORAGE_FAILED',
    503,
    '452 4.3.1',
    'The message could not be stored safely, so it was not taken.',
    'Try again in some minutes; the operator has been told.',
    true,
  ),
  SIGNING_FAILED: entry(
    'SIGNING_FAILED',
    503,
    '451 4.3.0',
    'The message could not be signed, so it was not taken.',
    'Try again in some minutes; the operator has been told.',
    true,
  ),
  TLS_REQUIRED: entry(
    'TLS_REQUIRED',
    426,
    '530 5.7.0',
    'TLS is required first.',
    'Use STARTTLS on port 587, or implicit TLS on port 465.',
  ),
  NO_SUCH_MAILBOX: entry(
    'NO_SUCH_MAILBOX',
    404,
    '550 5.1.1',
    'No mailbox here takes mail.',
    'Check the address.',
  ),
  NOT_FOUND: entry('NOT_FOUND', 404, '550 5.1.1', 'There is nothing here.', 'Check the address.'),
  SESSION_TIMEOUT: entry(
    'SESSION_TIMEOUT',
    408,
    '421 4.4.2',
    'The session took too long.',
    'Connect again and send without long pauses.',
    true,
  ),
  SHUTTING_DOWN: entry(
    'SHUTTING_DOWN',
    503,
    '421 4.3.2',
    'This server is stopping.',
    'Try again in some minutes.',
    true,
  ),
  INTERNAL_ERROR: entry(
    'INTERNAL_ERROR',
    500,
    '451 4.3.0',
    'Something failed on our side.',
    'Try again in some minutes; the log of the relay says what it was.',
    true,
  ),
};

/** `detail` says what was observed against what was expected; it never carries a secret. */
export type Problem = { entry: CatalogueEntry; detail?: string };

export function problem(code: ErrorCode, detail?: string): Problem {
  return detail === undefined ? { entry: catalogue[code] } : { entry: catalogue[code], detail };
}

/** The body of every HTTP error: `error` for people, `code` for programs. */
export function httpBody({ entry: e, detail }: Problem): { error: string; code: ErrorCode; action: string } {
  return { error: detail ? `${e.text} ${detail}` : e.text, code: e.code, action: e.action };
}

/** The text of an SMTP reply without its code: `5.1.0 The From address …`. One line, no CR or LF. */
export function smtpText({ entry: e, detail }: Problem): string {
  const text = detail ? `${e.text} ${detail}` : e.text;
  return `${e.smtp.enhanced} ${text.replace(/[\r\n]+/g, ' ')}`;
}
