/**
 * The members with their accounts and API keys: made at the first start, kept in `members.json`.
 *
 * Each secret is written before or as soon as it counts, so that a start that was interrupted goes on
 * where it stopped: a password before the account, a key right after the enrolment.
 */
import { join } from 'node:path';
import { enrolMember, setForwardTo } from '../../node/cli/member.ts';
import { ensureAccount } from './accounts.ts';
import { type MemberCast, members } from './cast.ts';
import { randomHex, readSecret, writeSecret } from './secrets.ts';

export type Membership = MemberCast & {
  did: string;
  /** Of the account on the PDS. */
  password: string;
  /** Of the home cooperative. */
  apiKey: string;
};

type Stored = { portOffset: number; members: Record<string, Partial<Membership> & { password: string }> };

/** The state folder belongs to another world; `message` says which and what to do. */
export class WrongWorld extends Error {
  override name = 'WrongWorld';
}

export class Memberships {
  readonly #file: string;
  readonly #stored: Stored;

  /**
   * @param folder of the world
   * @param portOffset stands in every DID of the world, so a folder belongs to one
   * @throws WrongWorld
   */
  constructor(folder: string, portOffset: number) {
    this.#file = join(folder, 'members.json');
    this.#stored = readSecret<Stored>(this.#file) ?? { portOffset, members: {} };
    if (this.#stored.portOffset !== portOffset) {
      throw new WrongWorld(
        `${folder} is the world of port offset ${this.#stored.portOffset}, not ${portOffset}. ` +
          'Start it with that --port-offset, name another --state, or make a new world with --fresh.',
      );
    }
    for (const { handle } of members) {
      this.#stored.members[handle] ??= { password: randomHex(12) };
    }
    writeSecret(this.#file, this.#stored);
  }

  /**
   * Accounts and enrolments of all members.
   *
   * @param configFileOf the configuration of a cooperative
   * @throws when the PDS or the cooperative refuses
   */
  async ensure(pdsUrl: string, configFileOf: (home: MemberCast['home']) => string): Promise<Membership[]> {
    return Promise.all(members.map((cast) => this.#ensureOne(cast, pdsUrl, configFileOf(cast.home))));
  }

  async #ensureOne(cast: MemberCast, pdsUrl: string, configFile: string): Promise<Membership> {
    const { handle } = cast;
    const { password } = this.#stored.members[handle]!;
    const did = this.#stored.members[handle]!.did ?? (await ensureAccount({ pdsUrl, handle, password }));
    this.#keep(handle, { did });
    const apiKey = this.#stored.members[handle]!.apiKey ?? (await enrol(cast, did, configFile));
    this.#keep(handle, { apiKey });
    return { ...cast, did, password, apiKey };
  }

  #keep(handle: string, facts: Partial<Membership>): void {
    Object.assign(this.#stored.members[handle]!, facts);
    writeSecret(this.#file, this.#stored);
  }
}

/** @returns the API key */
async function enrol({ handle, domains }: MemberCast, did: string, configFile: string): Promise<string> {
  const { apiKey } = await enrolMember(configFile, { did, handle, domains, relay: true });
  for (const domain of domains) {
    // Confirmed: in the sandbox every address is caught by the inbox.
    await setForwardTo(configFile, domain, `${handle.split('.')[0]}@inbox.test`);
  }
  return apiKey;
}
