/**
 * The whole queue under stress: destinations that misbehave, operators who change their minds, and a process
 * that is killed again and again, against a ledger of what was acknowledged and of what the sinks took.
 *
 * At the end every acknowledged recipient is terminal, once; `sent` means that a sink took it; what arrived
 * twice, or arrived and is not `sent`, was under way when the process ended; nothing is left behind.
 *
 * ATMOS_KILL_ROUNDS sets how often it is ended (default 3), ATMOS_FUZZ_SEED repeats the acts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import type { Event } from '../../node/enforcement/events.ts';
import { newQueueId, recipientId } from '../../node/spool/ids.ts';
import { spoolMigrations } from '../../node/spool/schema.ts';
import type { MessagePage, MessageStatus, QueueSummary } from '../../node/spool/spool.ts';
import { terminalStates } from '../../node/spool/states.ts';
import { Fuzz } from '../fuzz/random.ts';
import { temporaryFolder } from '../unit/spool-fixtures.ts';
import { until } from '../until.ts';
import { behaviours, type Ledger, type Order, sinks } from './relay-stress-world.ts';

const fuzz = new Fuzz('relay-stress', 'ATMOS_KILL_ROUNDS');
const child = new URL('./relay-stress-child.ts', import.meta.url).pathname;
const messagesEachRound = 40;
/** What may be under way at once (relay-stress-child.ts). */
const mostAtOnce = 20;

const domains = [...Object.keys(behaviours), 'many1.test', 'many2.test', 'down.test', 'gone.test'];
const dids = ['did:plc:reef', 'did:plc:cove', 'did:plc:bay'];
const simulated = ['delivered', 'bounced', 'deferred', 'complained'];

class Relay {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (value: unknown) => void>();
  readonly #exited: Promise<unknown[]>;
  #lastId = 0;
  #isEnding = false;

  constructor(t: TestContext, dir: string, port: number, epoch: number) {
    this.#child = fork(child, [dir, String(port), String(epoch)]);
    this.#exited = once(this.#child, 'exit').then(([code, signal]) => {
      if (!this.#isEnding) throw new Error(`the relay ended by itself: ${code ?? signal}`);
      // Who waits for an answer never knows.
      for (const resolve of this.#waiting.values()) resolve(undefined);
      return [];
    });
    this.#child.on('message', ({ id, value }: { id: number; value: unknown }) => {
      this.#waiting.get(id)?.(value);
      this.#waiting.delete(id);
    });
    t.after(() => this.#child.kill('SIGKILL'));
  }

  /** Undefined when it ended before it answered. */
  ask<T>(order: Order): Promise<T | undefined> {
    if (this.#isEnding) return Promise.resolve(undefined);
    const id = ++this.#lastId;
    const answered = new Promise<T | undefined>((resolve) => {
      this.#waiting.set(id, resolve as (value: unknown) => void);
    });
    this.#child.send({ id, order });
    return Promise.race([answered, this.#exited as Promise<never>]);
  }

  async kill(): Promise<void> {
    this.#isEnding = true;
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async stop(): Promise<void> {
    const stopped = this.ask({ what: 'stop' });
    this.#isEnding = true;
    await stopped;
    await this.#exited;
  }
}

class Stress {
  readonly ledger: Ledger = { taken: [] };
  readonly acknowledged = new Map<string, string[]>();

  /** Never waits for more than is under way: the process may die before it answers. */
  async offer(relay: Relay): Promise<void> {
    const queueId = newQueueId();
    const to = Array.from({ length: 1 + fuzz.below(4) }, (_, n) => addressOf(n));
    const size = fuzz.pick([100, 100, 5_000, 100_000, 300_000]);
    const rare = fuzz.below(20);
    const kind = await relay.ask<string>({
      ...{ what: 'accept', queueId, did: fuzz.pick(dids), to, size },
      ...(rare === 0 && { later: true }),
      ...(rare === 1 && { hold: 'looked at first' }),
    });
    if (kind === 'committed') this.acknowledged.set(queueId, to);
  }

  async act(relay: Relay): Promise<void> {
    const known = [...this.acknowledged.keys()];
    if (known.length === 0) return;
    const queueId = fuzz.pick(known.slice(-messagesEachRound));
    const id = fuzz.below(2) === 0 ? queueId : recipientId(queueId, 1);
    const byId = { ids: [id] };
    const wide = fuzz.pick([{ did: fuzz.pick(dids) }, { recipientDomain: fuzz.pick(domains) }]);
    const what = fuzz.below(16);
    if (what === 0) await relay.ask({ what: 'cancelScheduled', queueId });
    else if (what < 4) await relay.ask({ what: 'act', act: 'cancel', selection: byId });
    else if (what < 6) await relay.ask({ what: 'act', act: 'fail', selection: byId });
    else if (what < 8) await relay.ask({ what: 'act', act: 'hold', selection: byId });
    else if (what < 9) await relay.ask({ what: 'act', act: 'hold', selection: wide });
    else if (what < 12) await relay.ask({ what: 'act', act: 'unhold', selection: { states: ['held'] } });
    else if (what < 14) await relay.ask({ what: 'act', act: 'retryNow', selection: wide });
    else {
      const to = fuzz.pick([undefined, behaviours['good.test'], behaviours['soft.test']]);
      await relay.ask({ what: 'act', act: 'reroute', selection: byId, ...(to && { to }) });
    }
  }

  /** Mail and acts, several at once. */
  async round(relay: Relay, most: number): Promise<void> {
    let left = most;
    const one = async () => {
      while (left-- > 0) {
        await this.offer(relay);
        if (fuzz.below(2) === 0) await this.act(relay);
      }
    };
    await Promise.all([one(), one(), one(), one()]);
  }
}

function addressOf(n: number): string {
  if (fuzz.below(15) === 0) return `${fuzz.pick(simulated)}@simulator.harbor.test`;
  return `u${n}@${fuzz.pick(domains)}`;
}

test('whatever happens to the mail and to the process: each recipient ends once, and as it was', async (t) => {
  const dir = temporaryFolder(t);
  const stress = new Stress();
  const { port, close } = await sinks(stress.ledger);
  t.after(close);
  const epoch = Date.now();
  const ends = fuzz.rounds(3);
  for (let round = 0; round < ends; round++) {
    const relay = new Relay(t, dir, port, epoch);
    const first = fuzz.below(messagesEachRound);
    await stress.round(relay, first);
    // In the middle of what the others are doing.
    const rest = stress.round(relay, messagesEachRound - first);
    await (round % 3 === 2 ? relay.stop() : relay.kill());
    await rest;
  }
  const relay = new Relay(t, dir, port, epoch);
  await stress.round(relay, messagesEachRound);
  await relay.ask({ what: 'act', act: 'unhold', selection: { states: ['held'] } });
  await atRest(relay);
  const messages = await everything(relay);
  const events = await allEvents(relay);
  await relay.stop();
  judge(stress, { messages, events, ends });
  assert.deepEqual(leftBehind(dir), { content: 0, unfinished: 0, files: [] });
});

/** Nothing waits any more, for whatever time. */
async function atRest(relay: Relay): Promise<void> {
  await until(
    'an empty queue',
    async () => {
      const summary = (await relay.ask<QueueSummary>({ what: 'summary' }))!;
      if (summary.total > 0) throw new Error(JSON.stringify(summary));
      assert.deepEqual([summary.messages, summary.bytes], [0, 0], 'the quotas');
      return true;
    },
    60_000,
  );
}

async function everything(relay: Relay): Promise<MessageStatus[]> {
  const all: MessageStatus[] = [];
  for (let cursor: string | undefined; ; ) {
    const page: MessagePage = (await relay.ask<MessagePage>({
      what: 'messages',
      ...(cursor && { cursor }),
    }))!;
    all.push(...page.messages);
    cursor = page.cursor;
    if (cursor === undefined) return all;
  }
}

async function allEvents(relay: Relay): Promise<Event[]> {
  const all: Event[] = [];
  for (;;) {
    const some = (await relay.ask<Event[]>({ what: 'events', after: all.at(-1)?.id ?? '0' }))!;
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function judge(
  { acknowledged, ledger }: Stress,
  { messages, events, ends }: { messages: MessageStatus[]; events: Event[]; ends: number },
): void {
  const byId = new Map(messages.map((one) => [one.queueId, one]));
  for (const queueId of acknowledged.keys()) assert.ok(byId.has(queueId), `${queueId} is lost`);
  const mail = messages.filter(({ kind }) => kind === 'mail').flatMap(({ recipients }) => recipients);
  const ended = Map.groupBy(events.filter(isEnd), ({ recipientId: id }) => id!);
  const taken = Map.groupBy(ledger.taken, (id) => id);
  let [twice, unmarked] = [0, 0];
  for (const { id, state, simulated: isSimulated } of mail) {
    assert.ok(terminalStates.has(state), `${id} is ${state}`);
    assert.deepEqual(
      ended.get(id)?.map(({ detail }) => detail.state),
      [state],
      `how ${id} ended`,
    );
    const times = taken.get(id)?.length ?? 0;
    if (isSimulated) assert.equal(times, 0);
    else if (state === 'sent') assert.ok(times > 0, `${id} is sent, and nobody has it`);
    else if (times > 0) unmarked += 1;
    if (times > 1) twice += 1;
  }
  const bounced = mail.filter(({ state }) => state === 'bounced').length;
  const dsns = messages.filter(({ kind }) => kind === 'dsn').length;
  const sent = mail.filter(({ state }) => state === 'sent').length;
  console.log(
    `relay-stress: of ${mail.length} recipients ${sent} sent, ${bounced} bounced, ${dsns} DSNs; ${twice} arrived twice, ${unmarked} arrived and are not sent`,
  );
  assert.ok(twice + unmarked <= ends * mostAtOnce);
  // Beside those of failures there are those of delays.
  assert.ok(dsns >= bounced, 'no bounce without its DSN');
}

function isEnd({ type, detail }: Event): boolean {
  return type === 'delivery_result' && terminalStates.has(detail.state as never);
}

/** What would stay for ever. */
function leftBehind(dir: string) {
  const db = openDatabase(join(dir, 'spool.db'), spoolMigrations, { synchronous: 'NORMAL' });
  const count = (sql: string) => (db.prepare(sql).get() as { n: number }).n;
  try {
    return {
      content: count('SELECT COUNT(*) AS n FROM content'),
      unfinished: count('SELECT COUNT(*) AS n FROM message WHERE finished_at IS NULL OR open <> 0'),
      files: readdirSync(join(dir, 'spool')),
    };
  } finally {
    db.close();
  }
}
