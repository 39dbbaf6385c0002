/**
 * `app.bsky.labeler.service/self`: our label values with names and explanations, for clients that show labels.
 *
 * A convention of the Bluesky app, which needs a repo. What else stands in the record (values of another labeler
 * on the same account, what reports it takes) stays as it is.
 */
import {
  cleanSender,
  listSender,
  relayMember,
  suspendedPrefix,
  verifiedMailOperator,
} from '../../appview/label-values.ts';
import type { SuspensionReason } from '../../appview/labels/signal.ts';
import type { RepoRecord } from './repo-records.ts';

type Text = { name: string; description: string };
type Texts = { en: Text; de: Text };

const collection = 'app.bsky.labeler.service';

const good: Record<string, Texts> = {
  [verifiedMailOperator]: {
    en: {
      name: 'Verified mail operator',
      description:
        'This account is a member of the cooperative that says so, and the DNS records of its mail domain are right.',
    },
    de: {
      name: 'Geprüfter Mailbetreiber',
      description:
        'Dieses Konto ist Mitglied der Genossenschaft, die das sagt, und die DNS-Einträge seiner Maildomain stimmen.',
    },
  },
  [relayMember]: {
    en: {
      name: 'Relay member',
      description: 'This account may send its mail through the relay of the cooperative that says so.',
    },
    de: {
      name: 'Relay-Mitglied',
      description: 'Dieses Konto darf seine Mail über das Relay der Genossenschaft senden, die das sagt.',
    },
  },
  [cleanSender]: {
    en: {
      name: 'Clean sender',
      description: 'Over the last 30 days its mail hardly bounced, and hardly anyone complained.',
    },
    de: {
      name: 'Sauberer Absender',
      description:
        'In den letzten 30 Tagen war seine Mail fast immer zustellbar, und kaum jemand hat sich beschwert.',
    },
  },
  [listSender]: {
    en: {
      name: 'List sender',
      description: 'It sends to mailing lists whose readers asked for them, as the cooperative has seen.',
    },
    de: {
      name: 'Listenabsender',
      description: 'Es versendet an Verteiler, die gewünscht sind, wie die Genossenschaft gesehen hat.',
    },
  },
};

const suspended: Record<SuspensionReason, Texts> = {
  spam: {
    en: { name: 'Suspended: spam', description: 'It may not send mail for now, because it sent spam.' },
    de: {
      name: 'Gesperrt: Spam',
      description: 'Es darf vorerst keine Mail senden, weil es Spam gesendet hat.',
    },
  },
  phishing: {
    en: {
      name: 'Suspended: phishing',
      description: 'It may not send mail for now, because its mail tried to steal secrets.',
    },
    de: {
      name: 'Gesperrt: Phishing',
      description: 'Es darf vorerst keine Mail senden, weil seine Mail Geheimnisse stehlen sollte.',
    },
  },
  'stolen-key': {
    en: {
      name: 'Suspended: stolen key',
      description: 'It may not send mail for now, because somebody else sent with its key.',
    },
    de: {
      name: 'Gesperrt: gestohlener Schlüssel',
      description:
        'Es darf vorerst keine Mail senden, weil jemand anderes mit seinem Schlüssel gesendet hat.',
    },
  },
  'list-quality': {
    en: {
      name: 'Suspended: list quality',
      description: 'It may not send mail for now, because too many of its recipients do not exist.',
    },
    de: {
      name: 'Gesperrt: schlechte Verteiler',
      description: 'Es darf vorerst keine Mail senden, weil es zu viele seiner Empfänger nicht gibt.',
    },
  },
  other: {
    en: {
      name: 'Suspended',
      description: 'It may not send mail for now. The cooperative that says so knows why.',
    },
    de: {
      name: 'Gesperrt',
      description: 'Es darf vorerst keine Mail senden. Warum, weiß die Genossenschaft, die das sagt.',
    },
  },
};

type Definition = { identifier: string; [field: string]: unknown };

const definitions: Definition[] = [
  ...Object.entries(good).map(([value, texts]) => definition(value, 'inform', texts)),
  ...Object.entries(suspended).map(([reason, texts]) => definition(suspendedPrefix + reason, 'alert', texts)),
];

/** @param at Unix ms. @returns makes the record from the one that stands there */
export function labelerServiceRecord(at: number): (there: Record<string, unknown> | undefined) => RepoRecord {
  return (there) => ({ collection, rkey: 'self', record: recordOver(there, at) });
}

function recordOver(there: Record<string, unknown> | undefined, at: number): Record<string, unknown> {
  const { labelValues, labelValueDefinitions } = (there?.policies ?? {}) as Record<string, unknown>;
  const ours = definitions.map(({ identifier }) => identifier);
  const otherValues = listOf<string>(labelValues).filter((value) => !ours.includes(value));
  const otherDefinitions = listOf<Definition>(labelValueDefinitions).filter(
    ({ identifier }) => !ours.includes(identifier),
  );
  return {
    // No reports: questions about a member go to the contact of the declaration.
    reasonTypes: [],
    createdAt: new Date(at).toISOString(),
    ...there,
    $type: collection,
    policies: {
      ...(there?.policies as object | undefined),
      labelValues: [...ours, ...otherValues],
      labelValueDefinitions: [...definitions, ...otherDefinitions],
    },
  };
}

function listOf<T>(value: unknown): T[] {
  return Array.isArray(value) ? value : [];
}

function definition(identifier: string, severity: 'inform' | 'alert', { en, de }: Texts): Definition {
  return {
    identifier,
    severity,
    // About mail: it says nothing of what the account posts.
    ...{ blurs: 'none', defaultSetting: 'warn', adultOnly: false },
    locales: [
      { lang: 'en', ...en },
      { lang: 'de', ...de },
    ],
  };
}
