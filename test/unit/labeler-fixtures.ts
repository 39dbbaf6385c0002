/** What the labeler's tests put on the other side of its interfaces: a DNS world as a table, commits of members. */
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { Attestations, type ProvedEntry } from '../../appview/firehose/attestations.ts';
import { appviewMigrations } from '../../appview/migrations.ts';
import type { CooperativeRecord } from '../../node/cooperative/declaration.ts';
import type { Answer, MxRecord, Resolver } from '../../node/resolver.ts';

/** `TXT name` or `MX name` → records; `fail` stands for a server that does not answer. Others: NXDOMAIN. */
export type DnsTable = Record<string, string[] | 'fail'>;

const server = '127.0.0.1:53';

/** Read anew at each question, so a test changes the world by changing the table. */
export function tableResolver(table: DnsTable): Resolver {
  const look = <T>(key: string, read: (text: string) => T): Promise<Answer<T>> => {
    const entry = table[key];
    if (entry === undefined) return Promise.resolve({ kind: 'nxdomain', server });
    if (entry === 'fail') return Promise.resolve({ kind: 'failed', reason: 'timed out', server });
    if (entry.length === 0) return Promise.resolve({ kind: 'none', server });
    return Promise.resolve({ kind: 'found', records: entry.map(read), server });
  };
  const mx = (text: string): MxRecord => {
    const [preference, exchange] = text.split(' ') as [string, string];
    return { preference: Number(preference), exchange: exchange === '.' ? '' : exchange };
  };
  return {
    txt: (name) => look(`TXT ${name}`, (text) => text),
    mx: (name) => look(`MX ${name}`, mx),
    a: (name) => look(`A ${name}`, (text) => text),
    aaaa: (name) => look(`AAAA ${name}`, (text) => text),
  };
}

/** An Ed25519 key of no one's; only its length matters here. */
export const dkimRecord = `v=DKIM1; k=ed25519; p=${Buffer.alloc(32, 7).toString('base64')}`;

export const cooperative: CooperativeRecord = {
  $type: 'email.atmos.cooperative',
  name: 'Harbor',
  poolDomain: 'harbor.test',
  labeler: 'https://harbor.test',
  createdAt: '2026-01-01T00:00:00.000Z',
};

/** Everything right for one domain with the selector `s1`. */
export function goodDns(domain: string, did: string): DnsTable {
  return {
    [`TXT _atproto.${domain}`]: [`did=${did}`],
    [`MX ${domain}`]: [`10 mx.${domain}`],
    [`TXT ${domain}`]: ['v=spf1 mx -all'],
    [`TXT s1._domainkey.${domain}`]: [dkimRecord],
    [`TXT _dmarc.${domain}`]: ['v=DMARC1; p=reject'],
  };
}

/** The real index, fed with commits as the firehose reader does after proving them. */
export class AttestedWorld {
  readonly index: Attestations;
  readonly #now: () => number;
  #seq = 0;

  constructor(now: () => number) {
    this.#now = now;
    const db = openDatabase(':memory:', appviewMigrations, { synchronous: 'NORMAL' });
    this.index = new Attestations({ db, log: pino({ level: 'silent' }), count: () => undefined, now });
  }

  put(
    did: string,
    domain: string,
    cid: string,
    more: { relayMember?: boolean; dkimSelectors?: string[] } = {},
  ): void {
    const createdAt = '2026-01-01T00:00:00.000Z';
    const value = { $type: 'email.atmos.attestation', domain, dkimSelectors: ['s1'], createdAt, ...more };
    this.#commit(did, { rkey: domain, cid, value });
  }

  delete(did: string, domain: string): void {
    this.#commit(did, { rkey: domain });
  }

  /** The firehose's unsigned word. */
  setActive(did: string, active: boolean, status = 'deactivated'): void {
    this.#seq += 1;
    const event = { did, active, time: this.#now(), ...(active ? {} : { status }) };
    this.index.applyAccount(event, { source: 'ws://relay.test', seq: this.#seq });
  }

  #commit(did: string, entry: ProvedEntry): void {
    this.#seq += 1;
    const rev = `3k${String(this.#seq).padStart(11, '2')}`;
    this.index.applyCommit({ did, rev, entries: [entry] }, { source: 'ws://relay.test', seq: this.#seq });
  }
}
