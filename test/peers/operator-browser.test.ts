/** The operator's pages in a real browser: what it sends with a form decides whether anybody can log in. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { operatorPages } from '../../node/operator/pages.ts';
import { QueueTools } from '../../node/operator/queue-tools.ts';
import { OperatorSessions } from '../../node/operator/sessions.ts';
import { Spool } from '../../node/spool/spool.ts';
import { needs } from '../peers.ts';
import { mail } from '../unit/spool-fixtures.ts';
import { Browser } from './browser.ts';

const log = pino({ level: 'silent' });

async function openPages() {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-pages-'));
  const spool = await Spool.open({ dir, log });
  const sessions = new OperatorSessions(Date.now);
  const tools = new QueueTools({
    queue: spool,
    traffic: {
      sites: () => [{ site: 'harbor.example', source: '192.0.2.7', connections: 3, limit: 20 }],
      flush: () => undefined,
      wake: () => undefined,
    },
    did: 'did:web:harbor.test',
    record: () => undefined,
    stoppedMembers: () => [],
    now: Date.now,
  });
  const pages = operatorPages({ tools, sessions, name: 'Harbor', log, now: Date.now });
  await pages.listen({ host: '127.0.0.1', port: 0 });
  return {
    ...{ spool, sessions },
    base: `http://127.0.0.1:${(pages.server.address() as AddressInfo).port}`,
    close: async () => {
      await pages.close();
      await spool.close();
      rmSync(dir, { recursive: true });
    },
  };
}

/** For people who want to see them: ATMOS_SCREENSHOTS names a folder. */
async function keepScreenshot(browser: Browser, name: string): Promise<void> {
  const folder = process.env.ATMOS_SCREENSHOTS;
  if (!folder) return;
  writeFileSync(join(folder, `${name}.png`), await browser.screenshot());
  writeFileSync(join(folder, `${name}-narrow.png`), await browser.screenshot(400, 900));
}

test('somebody logs in, lists, holds and releases a recipient by the buttons, and logs out', {
  skip: needs('chromium'),
}, async () => {
  const { spool, sessions, base, close } = await openPages();
  const browser = await Browser.start();
  try {
    const message = mail({ to: ['ana@harbor.example', 'bo@harbor.example'], receivedAt: Date.now() - 9e6 });
    await spool.accept(message);
    await spool.accept(
      mail({ to: ['cy@a-rather-long-name-of-a-site.meadow.example'], receivedAt: Date.now() }),
    );
    const states = async () => (await spool.message(message.queueId))!.recipients.map(({ state }) => state);

    await browser.open(`${base}/login?t=${sessions.newLink('ada')}`);
    await browser.click('Log in');
    assert.match(await browser.text(), /3 recipients wait/);
    await keepScreenshot(browser, 'queue');

    await browser.type('recipientDomain', 'harbor.example');
    await browser.type('olderThan', '2h');
    await browser.click('List');
    assert.match(await browser.text(), /ana@harbor\.example/);
    assert.doesNotMatch(await browser.text(), /meadow/);
    await browser.evaluate(`document.querySelector('[name=id]').click()`);
    await browser.type('reason', 'looks odd');
    await keepScreenshot(browser, 'list');
    await browser.click('Hold');
    assert.match(await browser.text(), /Changed: 1/);
    assert.deepEqual(await states(), ['held', 'accepted']);

    await browser.open(`${base}/messages/${message.queueId}`);
    assert.match(await browser.text(), /held by ada: looks odd/);
    await keepScreenshot(browser, 'message');

    await browser.open(`${base}/recipients?state=held&state=scheduled`);
    await browser.evaluate(`document.querySelector('[name=id]').click()`);
    await browser.type('reason', 'it is fine');
    await browser.click('Release');
    assert.deepEqual(await states(), ['accepted', 'accepted']);

    await browser.click('Log out');
    await browser.open(`${base}/`);
    assert.match(await browser.text(), /atmos operator link/);
  } finally {
    await browser.close();
    await close();
  }
});
