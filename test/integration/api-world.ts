/** The whole HTTP API of members over a relay with the real spool. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Rates } from '../../node/enforcement/rates.ts';
import { standings } from '../../node/enforcement/standing.ts';
import type { Door } from '../../node/http/authenticated.ts';
import { Contacts } from '../../node/members/contacts.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { registerMemberApi } from '../../node/relay/api/member-api.ts';
import { ByteBudget } from '../../node/relay/byte-budget.ts';
import { OwnMail } from '../../node/relay/own-mail.ts';
import { createHttp } from '../../node/web/http.ts';
import { Xrpc } from '../../node/web/xrpc.ts';
import { openWorld, poolDomain, reef, type World, type WorldOptions, wideOpen } from './submission-world.ts';

export const publicUrl = 'https://harbor.test';

export type ApiWorld = Awaited<ReturnType<typeof openApiWorld>>;

export type Answer = {
  status: number;
  /** Whatever JSON says; undefined for a page. */
  body: ReturnType<typeof JSON.parse>;
  text: string;
  headers: Record<string, unknown>;
};

export async function openApiWorld(o: WorldOptions & { budget?: ByteBudget } = {}) {
  const world = await openWorld(o);
  const api = await openApi(world, o);
  return {
    ...world,
    ...api,
    close: async () => {
      await api.app.close();
      await world.close();
    },
  };
}

async function openApi(world: World, o: WorldOptions & { budget?: ByteBudget }) {
  const { authenticator, intake, members, spool, db, now, log, signer } = world;
  const count = (what: string, reason?: string) => {
    world.counted.push(reason === undefined ? what : `${what} ${reason}`);
  };
  const app = createHttp({
    xrpc: new Xrpc({ addMethods: () => undefined, log }),
    maxSubscribers: 1,
    count,
    log,
  });
  const door: Door = { authenticator, admission: intake.admission, log };
  const budget = o.budget ?? new ByteBudget(64 * 1024 * 1024);
  const contacts = new Contacts({ db, now });
  const suppressions = new Suppressions({ db, now });
  const rates = new Rates({ db, now });
  const standingOf = standings({ db, policy: o.caps ?? wideOpen, now });
  const ownMail = new OwnMail({
    queue: o.queue?.(spool) ?? spool,
    signForPool: (message) => signer.signForPool(message),
    ...{ name: 'Harbor', poolDomain, now, log },
  });
  await registerMemberApi(app, {
    ...{ door, intake, budget, spool, members, contacts, suppressions, rates, standingOf, ownMail },
    ...{ cooperative: 'Harbor', publicUrl, poolDomain, now },
    receivesFor: async (domain) => domain === 'news.reef.test',
    warmingDays: (o.caps ?? wideOpen).warmingDays,
  });

  const login = { 'x-atmos-did': reef, authorization: `Bearer ${world.reefKey}` };

  /** One request, as Reef unless other headers are given. A body that is text goes out as it is. */
  const call = async (
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    url: string,
    { body, headers = {}, as = login }: { body?: unknown; headers?: object; as?: object } = {},
  ): Promise<Answer> => {
    // Over a socket each request comes in a turn of its own.
    await nextTurn();
    const payload = typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await app.inject({
      ...{ method, url },
      ...(body !== undefined && { payload }),
      headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...as, ...headers },
    });
    const isJson = `${answer.headers['content-type']}`.startsWith('application/json');
    const parsed = isJson ? JSON.parse(answer.body) : undefined;
    return { status: answer.statusCode, body: parsed, text: answer.body, headers: answer.headers };
  };

  /** What is queued under an id, with the message as it would leave. */
  const queuedAs = async (messageId: string) =>
    (await world.accepted()).filter(({ queueId }) => queueId === messageId);

  return { ...{ app, contacts, suppressions, rates, budget, login, call, queuedAs } };
}
