/** The lines of an rbldnsd file that begin with a dollar sign: `$TTL 5m`, `$NS 0 ns1 ns2`, `$1 text`. */
import { hostKey } from '../name.ts';
import type { ZoneHead } from './source.ts';

const units: Record<string, number> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

export class Specials {
  readonly head: ZoneHead;
  /** Of one dataset. */
  readonly variables = new Map<string, string>();
  /** Addresses that one range may hold; undefined: any number. */
  maxRange: number | undefined;

  readonly #apex: string;

  /** @param head of the zone, where the first that says a thing has said it */
  constructor(head: ZoneHead, apex: string) {
    this.head = head;
    this.#apex = apex;
  }

  /**
   * @param text behind the dollar sign
   * @returns why it, or a part of it, is not taken; undefined when it is
   * @throws Error for what would change the meaning of other lines
   */
  read(text: string): string | undefined {
    const [, word = '', rest = ''] = /^(\S*)\s*(.*)$/s.exec(text) ?? [];
    const name = word.toUpperCase();
    if (/^\d$/.test(word)) return this.#variable(word, rest);
    if (name === 'TTL') return this.#ttl(rest);
    if (name === 'NS' || name === 'NAMESERVER') return this.#nameservers(rest);
    if (name === 'SOA') return this.#soa(rest);
    if (name === 'MAXRANGE4') return this.#maxRange(rest);
    if (name === '=' || name === 'DATASET') throw new Error(`$${word} is not read: see dnsbl/files`);
    if (name === 'INCLUDE') return '$INCLUDE is not read: give the file as a --zone of its own';
    return `$${word} is not read`;
  }

  /** As in rbldnsd the first definition stays. */
  #variable(name: string, text: string): string | undefined {
    if (text === '') return `$${name} has no text`;
    if (text.includes('$')) return 'a dollar sign in a variable is not read';
    if (!this.variables.has(name)) this.variables.set(name, text);
    return undefined;
  }

  #ttl(text: string): string | undefined {
    const seconds = secondsOf(text);
    if (seconds === undefined) return '$TTL is no time such as 300 or 5m';
    if (seconds > 0) this.head.ttl ??= seconds;
    return undefined;
  }

  #nameservers(text: string): string | undefined {
    const [ttl = '', ...names] = text.split(/\s+/);
    const used = names.filter((name) => !name.startsWith('-')).map(withoutDot);
    if (secondsOf(ttl) === undefined || used.length === 0) return '$NS is not `$NS TTL NAME…`';
    const refused = used.filter((name) => !this.#canServe(name));
    if (refused.length < used.length) {
      this.head.nameservers ??= used.filter((name) => !refused.includes(name));
    }
    return refused.length === 0
      ? undefined
      : `${refused.join(', ')} cannot be name servers: host names outside ${this.#apex} can`;
  }

  /** One inside would need addresses, and the zone holds none but codes. */
  #canServe(name: string): boolean {
    const isInside = name === this.#apex || name.endsWith(`.${this.#apex}`);
    return hostKey(name) !== undefined && !isInside;
  }

  #soa(text: string): string | undefined {
    const [ttl = '', primary = '', person = '', serial = '', ...times] = text.split(/\s+/);
    const [, , , minimum] = times.map(secondsOf);
    const isNumber = /^\d{1,10}$/.test(serial) && Number(serial) < 2 ** 32;
    if (secondsOf(ttl) === undefined || primary === '' || !isNumber || minimum === undefined) {
      return '$SOA is not `$SOA TTL ORIGIN PERSON SERIAL REFRESH RETRY EXPIRE MINIMUM`';
    }
    if (this.head.serial !== undefined) return undefined;
    this.head.serial = Number(serial);
    this.head.negativeTtl = minimum;
    const hostmaster = withoutDot(person);
    if (hostKey(hostmaster) === undefined)
      return `${person} is no mailbox that the zone can have: name another with --hostmaster`;
    this.head.hostmaster = hostmaster;
    return undefined;
  }

  #maxRange(text: string): string | undefined {
    const [, slash, digits = ''] = /^(\/?)(\d{1,10})$/.exec(text) ?? [];
    const addresses = slash === '/' ? 2 ** (32 - Number(digits)) : Number(digits);
    if (digits === '' || addresses < 1) return '$MAXRANGE4 is no number of addresses and no /LENGTH';
    this.maxRange = Math.min(addresses, this.maxRange ?? addresses);
    return undefined;
  }
}

/** `300`, `5m`, `2h`. Below 2^31. */
function secondsOf(text: string): number | undefined {
  const [, digits = '', unit = ''] = /^(\d{1,10})([smhdw]?)$/i.exec(text) ?? [];
  const seconds = Number(digits) * units[unit.toLowerCase()]!;
  return digits === '' || seconds >= 2 ** 31 ? undefined : seconds;
}

function withoutDot(name: string): string {
  return name.replace(/\.$/, '').toLowerCase();
}
