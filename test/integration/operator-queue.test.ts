/** The operator's ways in, with a real spool behind them: socket, command line and pages do the same. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { type ControlError, ControlSocket, callNode, controlPath } from '../../node/operator/control.ts';
import { operatorPages } from '../../node/operator/pages.ts';
import { queueApi } from '../../node/operator/queue-api.ts';
import { QueueTools } from '../../node/operator/queue-tools.ts';
import { OperatorSessions } from '../../node/operator/sessions.ts';
import { Spool } from '../../node/spool/spool.ts';
import { mail } from '../unit/spool-fixtures.ts';

const run = promisify(execFile);
const atmos = join(import.meta.dirname, '../../node/atmos.js');
const log = pino({ level: 'silent' });

describe('the queue in the hands of an operator', () => {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-operator-'));
  const config = join(dir, 'atmos.jsonc');
  const sessions = new OperatorSessions(Date.now);
  const stopped: string[] = [];
  let spool: Spool;
  let control: ControlSocket;
  let pages: FastifyInstance;
  let base: string;

  before(async () => {
    writeFileSync(
      config,
      `{ "name": "Harbor", "domain": "harbor.test", "publicUrl": "https://harbor.test", "stateDir": ${JSON.stringify(dir)}, "roles": ["relay"] }`,
    );
    spool = await Spool.open({ dir, log });
    const tools = new QueueTools({
      queue: spool,
      traffic: { sites: () => [], flush: () => undefined, wake: () => undefined },
      did: 'did:web:harbor.test',
      record: () => undefined,
      stoppedMembers: () => stopped,
      now: Date.now,
    });
    control = new ControlSocket({ stateDir: dir, log });
    await control.app.register(queueApi(tools));
    await control.start();
    pages = operatorPages({ tools, sessions, name: 'Harbor', log, now: Date.now });
    await pages.listen({ host: '127.0.0.1', port: 0 });
    base = `http://127.0.0.1:${(pages.server.address() as AddressInfo).port}`;
  });
  after(async () => {
    await pages.close();
    await control.stop();
    await spool.close();
    rmSync(dir, { recursive: true });
  });

  async function queued(address: string): Promise<string> {
    const message = mail({ to: [address], receivedAt: Date.now() });
    assert.equal((await spool.accept(message)).kind, 'committed');
    return message.queueId;
  }

  async function stateOf(queueId: string): Promise<string> {
    return (await spool.message(queueId))!.recipients[0]!.state;
  }

  async function cli(...args: string[]) {
    const { stdout } = await run(process.execPath, [atmos, 'queue', ...args, '--config', config]);
    return stdout;
  }

  async function cookie(): Promise<string> {
    const reply = await post('/login', { t: sessions.newLink('ada') });
    return reply.headers.get('set-cookie')!.split(';')[0]!;
  }

  function post(path: string, form: Record<string, string>, headers: Record<string, string> = {}) {
    const body = new URLSearchParams(form);
    return fetch(base + path, {
      method: 'POST',
      body,
      redirect: 'manual',
      headers: { origin: base, ...headers },
    });
  }

  test('the socket is for its owner alone', () => {
    assert.equal(statSync(controlPath(dir)).mode & 0o777, 0o600);
  });

  test('the command line lists, holds with a reason and releases', async () => {
    const id = await queued('one@cli.test');
    assert.match(await cli('list', '--to-domain', 'CLI.test'), new RegExp(`${id}\\.1 .*one@cli\\.test`));
    assert.equal(await cli('hold', id, '--reason', 'looks odd'), 'hold: 1 recipient\n');
    assert.equal(await stateOf(id), 'held');
    assert.match(await cli('show', id), /held by .*: looks odd/);
    assert.match(await cli('summary'), /cli\.test/);
    assert.equal(await cli('release', id, '--reason', 'fine'), 'release: 1 recipient\n');
    assert.equal(await stateOf(id), 'accepted');
  });

  test('an act on everything by mistake is refused, and says what is missing', async () => {
    await assert.rejects(cli('drop', '--reason', 'oops'), (error: { code: number; stderr: string }) => {
      assert.equal(error.code, 2);
      assert.match(error.stderr, /Name what is meant/);
      return true;
    });
  });

  test('an unknown field and an unknown message are errors of the catalogue', async () => {
    const wrong = callNode(dir, 'POST', '/queue/act', { act: 'drop', selection: { domian: 'x' }, by: 'a' });
    await assert.rejects(wrong, (error: ControlError) => error.code === 'INVALID_REQUEST');
    const unknown = callNode(dir, 'GET', '/queue/messages/0000000000000000');
    await assert.rejects(unknown, (error: ControlError) => error.code === 'NOT_FOUND');
  });

  test('without a node the command says so', async () => {
    await assert.rejects(callNode(join(dir, 'nowhere'), 'GET', '/queue'), /no node runs/);
  });

  test('without a session the pages show nothing and do nothing', async () => {
    const id = await queued('two@pages.test');
    assert.equal((await fetch(`${base}/`)).status, 403);
    assert.equal((await post('/act', { id, act: 'drop', reason: 'x' })).status, 403);
    assert.equal(await stateOf(id), 'accepted');
  });

  test('a form of another site does nothing, session or not', async () => {
    const id = await queued('three@pages.test');
    const headers = { cookie: await cookie(), origin: 'https://evil.test' };
    assert.equal((await post('/act', { id, act: 'drop', reason: 'x' }, headers)).status, 403);
    assert.equal(await stateOf(id), 'accepted');
  });

  test('with a session a page lists, shows and drops; its act carries the name', async () => {
    const id = await queued('<four>@pages.test');
    const headers = { cookie: await cookie() };
    const list = await (await fetch(`${base}/recipients?recipientDomain=pages.test`, { headers })).text();
    assert.match(list, /&lt;four&gt;@pages\.test/);
    assert.equal((await fetch(`${base}/messages/${id}`, { headers })).status, 200);
    assert.equal((await post('/act', { id, act: 'drop', reason: 'test mail' }, headers)).status, 200);
    const [recipient] = (await spool.message(id))!.recipients;
    assert.equal(recipient!.state, 'cancelled');
    assert.deepEqual(
      recipient!.acts.map(({ by, reason }) => [by, reason]),
      [['ada', 'test mail']],
    );
  });

  test('a page sends by another host, and back to what DNS names', async () => {
    const id = await queued('six@pages.test');
    const headers = { cookie: await cookie() };
    const rerouted = async () => (await spool.list({ ids: [id], limit: 1 })).entries[0]!.reroute;
    assert.equal((await post('/act', { id, act: 'reroute', to: 'mx.test:26' }, headers)).status, 200);
    assert.equal(await rerouted(), 'mx.test:26');
    assert.equal((await post('/act', { id, act: 'reroute', to: '' }, headers)).status, 200);
    assert.equal(await rerouted(), undefined);
  });

  test('a page tries everything for a site now', async () => {
    const headers = { cookie: await cookie() };
    const reply = await post('/flush', { site: 'pages.test' }, headers);
    assert.equal(reply.status, 200);
  });

  test('a release leaves alone what waits because the member may not send, whoever held it', async () => {
    const message = mail({ to: ['one@stopped.test'], did: 'did:plc:stopped', receivedAt: Date.now() });
    await spool.accept(message);
    stopped.push('did:plc:stopped');
    await spool.hold({ ids: [message.queueId] }, { by: 'ada', reason: 'odd' });
    assert.equal(
      await cli('release', '--did', 'did:plc:stopped', '--reason', 'x'),
      'release: 0 recipients\n',
    );
    assert.equal(await cli('release', message.queueId, '--reason', 'x'), 'release: 0 recipients\n');
    assert.equal(await stateOf(message.queueId), 'held');
    const byName = await cli('release', message.queueId, '--held-by', 'ada', '--reason', 'this one is good');
    assert.equal(byName, 'release: 1 recipient\n');
    assert.equal(await stateOf(message.queueId), 'accepted');
  });

  test('a page lists by key, age and several states; what is no cursor or age is said', async () => {
    const headers = { cookie: await cookie() };
    const page = async (query: string) => {
      const answer = await fetch(`${base}/recipients?recipientDomain=find.test&${query}`, { headers });
      return { status: answer.status, text: await answer.text() };
    };
    const old = { receivedAt: Date.now() - 3 * 3_600_000, keyId: 'k1' };
    await spool.accept(mail({ to: ['old@find.test'], ...old }));
    await spool.accept(mail({ to: ['new@find.test'], receivedAt: Date.now() }));
    for (const query of ['keyId=k1', 'olderThan=2h', 'state=held&state=accepted&keyId=k1']) {
      const { text } = await page(query);
      assert.ok(text.includes('old@find.test') && !text.includes('new@find.test'), query);
    }
    assert.match((await page('state=held&state=accepted')).text, /new@find\.test/);
    assert.deepEqual([(await page('cursor=7')).status, (await page('cursor=[]')).status], [400, 400]);
    assert.match((await page('olderThan=soon')).text, /soon: write an age as/);
    await assert.rejects(cli('list', '--cursor', 'x'), /The cursor is none/);
  });

  test('a GET with the words of an act changes nothing', async () => {
    const id = await queued('five@pages.test');
    const headers = { cookie: await cookie() };
    assert.equal((await fetch(`${base}/act?id=${id}&act=drop&reason=x`, { headers })).status, 404);
    assert.equal(await stateOf(id), 'accepted');
  });

  test('a link opens one session', async () => {
    const t = sessions.newLink('ada');
    assert.equal((await post('/login', { t })).status, 303);
    assert.equal((await post('/login', { t })).status, 403);
  });
});
