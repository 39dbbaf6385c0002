/**
 * The words and codes by which mail servers say why: a table of what Gmail, Microsoft, Yahoo, iCloud,
 * Proofpoint, Mimecast, Cisco, Postfix, Exim, qmail and others answer.
 *
 * What blames us is looked for first, since some servers put it under a recipient's code. Then a code that
 * is specific decides; one that is general leaves it to the text.
 */
/** Where in the session the reply came. */
export type Stage = 'session' | 'mail' | 'recipient' | 'data';

export type ReplyCause =
  /** The address does not exist, or is closed for good. */
  | 'recipient'
  | 'mailbox-full'
  | 'greylisted'
  /** Too much, too fast, too many at once. */
  | 'rate'
  /** Our address or domain is on a list, or thought ill of. */
  | 'reputation'
  /** SPF, DKIM, DMARC or reverse DNS did not satisfy. */
  | 'auth'
  | 'tls'
  /** The envelope sender is not wanted. */
  | 'sender'
  | 'content'
  | 'policy'
  /** The destination's own trouble. */
  | 'temporary'
  | 'unknown';

export type Heard = { code: string; status: string; text: string; stage: Stage };

/** Says that it is about us, whatever the code. In this order. */
const aboutUs: readonly [ReplyCause, RegExp][] = [
  ['greylisted', /gr[ea]y-?list|internal resource(s are)? temporarily unavailable/i],
  [
    'rate',
    /too (many|much) (\w+ ){0,3}(connections?|sessions?|messages|mails?|e-?mails|recipients|requests|concurrent)|\b(rate|connection|message|sending|hourly|daily) (limit|rate|quota)|rate.?limit|throttl|unusual rate|unexpected volume|exceeded (the )?(\w+ ){0,4}(rate|connections|messages)|slow down|too (fast|quickly|frequently)|\b(RL0000\d\d|TSS\d\d|TS0\d)\b/i,
  ],
  [
    'auth',
    /\b(dmarc|spf|dkim|unauthenticated|not authenticated|authentication (check|fail|required|information)|ptr record|reverse (dns|hostname|host ?name|lookup)|rdns|PTR resource)\b/i,
  ],
  [
    'reputation',
    /\b(spamhaus|spamcop|barracuda|sorbs|senderscore|dnsbl|dnswl|rbl|[bd]lock ?list(ed|ing)?|black ?list(ed|ing)?|deny ?list(ed)?|reputation|banned sending|blocked using|ipcheck\.proofpoint|S3140|S3150|BL0000\d\d|tosa@rx)\b|\b(client host|your ip|ip address|your server|\bip)\b.{0,80}\b(block|reject|denied|refused|listed|banned|not allowed)|\b(block|reject|listed|banned)\w*.{0,60}\b(your ip|ip address|client host|sending mta)|connections will not be accepted/is,
  ],
];

/** Codes that mean one thing; the class is not looked at here. */
const specific: readonly [ReplyCause, RegExp][] = [
  ['mailbox-full', /^[45]\.2\.2$/],
  ['recipient', /^5\.(1\.[1236]|1\.10|2\.1)$/],
  ['sender', /^[45]\.(1\.[78]|7\.27)$/],
  ['tls', /^[45]\.7\.(4|10|29|30)$/],
  ['auth', /^[45]\.7\.(20|21|22|23|24|25|26|509|515)$/],
  ['rate', /^4\.7\.(28|65\d|500)$/],
  ['reputation', /^[45]\.7\.(28|60[6-9]|6[1-4]\d|708|750)$/],
  ['content', /^[45]\.(6\.\d{1,3}|3\.4|2\.3)$/],
  ['temporary', /^4\.(3\.\d|4\.\d|1\.\d{1,2}|2\.1)$/],
];

/** For codes that are general or absent. In this order. */
const general: readonly [ReplyCause, RegExp][] = [
  ['tls', /\bSTARTTLS\b|\b(TLS|encryption) (is )?(required|needed)/i],
  [
    'mailbox-full',
    /(over|exceeded?s?) (its |their |the )?(\w+ )?quota|quota (exceeded|full)|(mailbox|inbox) (is )?(full|over)|storage (is )?full|out of (storage|space)/i,
  ],
  [
    'content',
    /\b(spam(my)?|junk ?mail|virus|malware|phish\w*|unsolicited|(message|content|attachment|mail) (\w+ ){0,3}(rejected|blocked|refused)|suspicious|bulk mail|message (size|too (large|big)))\b/i,
  ],
  [
    'sender',
    /\bsender (address |verify |domain )?(rejected|failed|denied|not|unknown|invalid)|\bsender verif/i,
  ],
  [
    'recipient',
    /\b(user|recipient|mailbox|address|account)\b.{0,40}\b(unknown|not found|does ?n[o']t exist|not exist|invalid|disabled|inactive|unavailable|unrouteable|undeliverable|no longer)|\b(no such|no|unknown|invalid|unrouteable|undeliverable|not a valid|inactive|non-?existent) (user|recipient|mailbox|address|account|local part)\b|does ?n[o']t have an? \S{1,80} account|no mailbox here by that name/is,
  ],
  ['policy', /\b(polic(y|ies)|prohibit\w*|relay\w*|not permitted|not allowed|denied|access)\b/i],
];

const vague = /^[245]\.(0\.0|1\.0|2\.0|3\.0|4\.0|5\.0|7\.0|7\.1)$/;
/** So guarded, a word too many only keeps an address from being suppressed. */
const blamesOthers =
  /\b(block(ed|list|ing)?|spam|policy|rate|sender|client host|relay(ing)? (access )?denied)\b|\bIP\b/i;
/** Microsoft's edge for an address that its directory does not have. */
const edgeRefusal = /^5\.4\.1$/;
const edgeText = /recipient address rejected: access denied/i;

export function causeOf(heard: Heard): ReplyCause {
  const { status, text, stage, code } = heard;
  const cause = firstOf(aboutUs, text) ?? firstOf(specific, status) ?? byText(heard);
  if (cause === 'recipient' || (edgeRefusal.test(status) && edgeText.test(text))) return recipientOr(heard);
  // A whole mailbox's daily quota is not a quota of ours.
  if (cause === 'rate' && /^[45]\.2\.[12]$/.test(status)) return code === '421' ? 'rate' : 'temporary';
  if (cause !== 'unknown') return cause;
  if (/try (again )?later/i.test(text) && (stage === 'session' || stage === 'mail')) return 'rate';
  return code.startsWith('4') ? 'temporary' : 'unknown';
}

function byText({ status, text }: Heard): ReplyCause {
  if (/^4\.7\./.test(status) && /try (again )?later|temporarily deferred/i.test(text)) return 'rate';
  if (vague.test(status)) return firstOf(general, text) ?? (/^5\.7\./.test(status) ? 'policy' : 'unknown');
  return /^[45]\.7\./.test(status) ? 'policy' : 'unknown';
}

/** Its own address alone, said by who may know: the answer to RCPT or to the message. */
function recipientOr({ code, text, status, stage }: Heard): ReplyCause {
  if (code.startsWith('4')) return 'temporary';
  if (/^5\.7\./.test(status)) return 'policy';
  const said = stage === 'recipient' || stage === 'data';
  return said && !blamesOthers.test(text) ? 'recipient' : 'policy';
}

function firstOf(rules: readonly [ReplyCause, RegExp][], text: string): ReplyCause | undefined {
  for (const [cause, pattern] of rules) if (pattern.test(text)) return cause;
  return undefined;
}
