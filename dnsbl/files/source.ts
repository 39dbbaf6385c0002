/** Which files make a zone, and what came of reading them. */
import type { TableShare } from '../table/share.ts';

export const subtrees = ['dom', 'ip', 'block', '_vouch'] as const;
export type SubtreeName = (typeof subtrees)[number];

/** rbldnsd's dataset types that we read and write. */
export const forms = ['dnset', 'ip4set', 'ip6trie'] as const;
export type FileForm = (typeof forms)[number];

export type ZoneSource = {
  subtree: SubtreeName;
  form: FileForm;
  file: string /** In hex: what the file must hold. */;
  sha256?: string;
};

/** A line that is not in the zone. */
export type NotTaken = { file: string; line: number; why: string };

/** What `$TTL`, `$SOA` and `$NS` say; the first of each counts. */
export type ZoneHead = {
  ttl?: number;
  nameservers?: string[];
  hostmaster?: string;
  /** 0 is none. */
  serial?: number;
  /** Of the SOA: how long a miss may be remembered. */
  negativeTtl?: number;
};

export type Loaded = {
  table: TableShare;
  /** Listings in force. */
  entries: number;
  head: ZoneHead;
  /** The first MAX_REPORTED_LINES of them. */
  notTaken: NotTaken[];
  notTakenCount: number;
  /** Lines for what an earlier line lists already: the last one counts. */
  repeated: number;
  /** Unix ms: the newest file's. */
  modifiedMs: number;
};

export const MAX_REPORTED_LINES = 100;

/**
 * `dom=FILE`, `ip=FILE`, `block=FILE`, `_vouch=FILE`; the form by the file's ending (`.dnset`, `.ip4set`,
 * `.ip6trie`), or written before it: `ip=ip6trie:FILE`.
 *
 * @throws Error that says what would be right
 */
export function parseSource(text: string): ZoneSource {
  const [, subtree = '', rest = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
  if (!isOneOf(subtrees, subtree) || rest === '') {
    throw new Error(`${text}: write it as dom=FILE, ip=FILE, block=FILE or _vouch=FILE`);
  }
  const [, prefix = '', named = ''] = /^(dnset|ip4set|ip6trie):(.+)$/s.exec(rest) ?? [];
  const file = prefix === '' ? rest : named;
  const ending = file.slice(file.lastIndexOf('.') + 1);
  const form = prefix || (isOneOf(forms, ending) ? ending : standardForm(subtree));
  const isNames = form === 'dnset';
  if (!isOneOf(forms, form)) throw new Error(`${text}: write block=dnset:FILE, or ip4set, or ip6trie`);
  if (subtree !== 'block' && isNames !== (subtree !== 'ip')) {
    throw new Error(`${text}: ${subtree} is not made of ${form}`);
  }
  return { subtree, form, file };
}

function standardForm(subtree: SubtreeName): FileForm | '' {
  if (subtree === 'block') return '';
  return subtree === 'ip' ? 'ip4set' : 'dnset';
}

function isOneOf<T extends string>(all: readonly T[], one: string): one is T {
  return (all as readonly string[]).includes(one);
}
