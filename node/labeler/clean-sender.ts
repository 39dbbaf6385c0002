/**
 * Who earns `clean-sender`: by this relay's own figures of the last 30 days (DESIGN.md, Labels).
 *
 * A pure judgement of figures (sending-figures.ts counts them) and standing: what is missing is said, so the
 * member can read it. Shares have a floor in numbers: one complaint is no pattern.
 */

/** Of one domain, over 30 days of UTC, today included. */
export type SendingFigures = {
  /** Delivered outside the member's own domains, at most three to one recipient. */
  sends: number;
  /** On which there were such. */
  days: number;
  recipients: number;
  /** Organisational domains of theirs. */
  organisations: number;
  /** Recipients accepted, all of them. */
  accepted: number;
  /** Refused or bounced as not existing; one recipient counts once. */
  recipientInvalid: number;
  /** One recipient counts once. */
  complaints: number;
};

export type CleanSenderRules = {
  sends: number;
  days: number;
  recipients: number;
  organisations: number;
  invalidShare: number;
  complaints: number;
  complaintShare: number;
  /** From so many accepted recipients on, the share counts beside the number. */
  complaintShareFrom: number;
};

export const defaultRules: CleanSenderRules = {
  sends: 100,
  days: 14,
  recipients: 20,
  organisations: 5,
  invalidShare: 0.02,
  complaints: 1,
  complaintShare: 0.0005,
  complaintShareFrom: 2_000,
};

/** `needed` is the least, for `recipientInvalid` and `complaints` the most, that is good enough. */
export type Missing = {
  figure: keyof SendingFigures | 'standing';
  observed: number;
  needed: number;
  text: string;
};

export type CleanSenderProgress = { earned: boolean; figures: SendingFigures; missing: Missing[] };

/** @param isWarned a warning, or more, is in force */
export function judgeSending(
  figures: SendingFigures,
  isWarned: boolean,
  rules: CleanSenderRules = defaultRules,
): CleanSenderProgress {
  const missing = [
    ...tooFew(figures, rules),
    ...tooMany(figures, rules),
    ...(isWarned
      ? [{ figure: 'standing' as const, observed: 1, needed: 0, text: 'a measure is in force' }]
      : []),
  ];
  return { earned: missing.length === 0, figures, missing };
}

/** What this file needs of enforcement's Standing. */
export type CleanSenderOptions = {
  figuresOf: (did: string, domain: string) => SendingFigures;
  /** Throws for who is not enrolled. */
  standingOf: (did: string) => { state: string };
};

/** @returns the function that the labeler, the member's page and its status ask */
export function cleanSenders({ figuresOf, standingOf }: CleanSenderOptions) {
  return function cleanSenderProgress(did: string, domain: string): CleanSenderProgress {
    return judgeSending(figuresOf(did, domain), standingOf(did).state !== 'active');
  };
}

function tooFew(figures: SendingFigures, rules: CleanSenderRules): Missing[] {
  const wanted = [
    ['sends', 'deliveries to others, at most three counted a recipient'],
    ['days', 'days with such deliveries'],
    ['recipients', 'recipients outside your own domains'],
    ['organisations', 'organisations that they belong to'],
  ] as const;
  return wanted.flatMap(([figure, what]) => {
    const [observed, needed] = [figures[figure], rules[figure]];
    const text = `${observed} ${what} in 30 days; ${needed} are needed`;
    return observed < needed ? [{ figure, observed, needed, text }] : [];
  });
}

function tooMany(
  { accepted, recipientInvalid, complaints }: SendingFigures,
  rules: CleanSenderRules,
): Missing[] {
  const found: Missing[] = [];
  if (recipientInvalid > 0 && recipientInvalid / accepted > rules.invalidShare) {
    const needed = Math.floor(accepted * rules.invalidShare);
    const text = `${recipientInvalid} of ${accepted} recipients do not exist; ${percent(rules.invalidShare)} may`;
    found.push({ figure: 'recipientInvalid', observed: recipientInvalid, needed, text });
  }
  const isFew = complaints <= rules.complaints;
  const isSmallShare = accepted >= rules.complaintShareFrom && complaints / accepted <= rules.complaintShare;
  if (!isFew && !isSmallShare) {
    const text = `${complaints} complaints on ${accepted} recipients; ${rules.complaints} may be, or ${percent(
      rules.complaintShare,
    )} of ${rules.complaintShareFrom} and more`;
    found.push({ figure: 'complaints', observed: complaints, needed: rules.complaints, text });
  }
  return found;
}

function percent(share: number): string {
  return `${share * 100} %`;
}
