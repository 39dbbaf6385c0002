/** A real PDS hands its own mail to the running node, by the recipe that its operator is given. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AtpAgent } from '@atproto/api';
import { freePort } from '../free-port.ts';
import { openRelayWorld, threeGood, tide } from '../relay-world.ts';
import { startPds } from '../sandbox/pds.ts';
import { Plc } from '../sandbox/plc.ts';

const world = await openRelayWorld();
after(() => world.close());
const { node, inbox, tideKey } = world;

const plc = await Plc.start({ file: join(world.dir, 'plc.jsonl'), port: 0 });
after(() => plc.stop());
// The DID is percent-encoded: a colon in a URL's user part would begin the password. The certificate is
// self-signed here, which a member's is not.
const user = encodeURIComponent(tide.did);
const port = await freePort();
const pds = await startPds({
  ...{ folder: join(world.dir, 'pds'), port, plcUrl: plc.url },
  email: {
    smtpUrl: `smtps://${user}:${tideKey}@127.0.0.1:${node.submissions.port}/?tls.rejectUnauthorized=false`,
    fromAddress: `pds@${tide.domain}`,
  },
});
after(() => pds.destroy());

async function accountWith(name: string, email: string): Promise<AtpAgent> {
  const agent = new AtpAgent({ service: `http://localhost:${port}` });
  await agent.createAccount({ handle: `${name}.test`, email, password: 'a long password' });
  return agent;
}

test('its verification mail arrives, signed three times, with a token that confirms the address', async () => {
  const agent = await accountWith('alice', 'alice@dest.test');
  await agent.com.atproto.server.requestEmailConfirmation();
  const { raw, mailFrom } = await inbox.waitFor(({ to }) => to.includes('alice@dest.test'), 20_000);
  assert.deepEqual(await world.verify(raw), threeGood(tide.domain));
  assert.match(raw.toString(), /^Feedback-ID: [^:]+:[^:]+:transactional:pool\.test\r$/m);
  assert.match(mailFrom, /@pool\.test$/);
  const [token] = /\b[A-Z2-7]{5}-[A-Z2-7]{5}\b/.exec(raw.toString())!;
  await agent.com.atproto.server.confirmEmail({ email: 'alice@dest.test', token });
  const { data } = await agent.com.atproto.server.getSession();
  assert.equal(data.emailConfirmed, true);
});

test('it arrives at an address that had unsubscribed from the member, where bulk mail does not', async () => {
  const address = 'bob@dest.test';
  const bulk = { from: `news@${tide.domain}`, to: address, subject: 'news', text: 'x', category: 'bulk' };
  const first = await sendOverHttp(bulk);
  assert.equal(first.accepted.length, 1);
  const news = await inbox.waitFor(({ to, subject }) => to.includes(address) && subject === 'news', 20_000);
  const [, link] = /^List-Unsubscribe: <(http[^>]+)>/m.exec(news.raw.toString().replace(/\r\n[ \t]+/g, ' '))!;
  const unsubscribed = await fetch(link!, {
    method: 'POST',
    body: new URLSearchParams({ 'List-Unsubscribe': 'One-Click' }),
  });
  assert.equal(unsubscribed.status, 200);
  const second = await sendOverHttp(bulk);
  assert.deepEqual(
    second.rejected.map(({ recipient, code }) => [recipient, code]),
    [[address, 'RECIPIENT_SUPPRESSED']],
  );

  const agent = await accountWith('bob', address);
  await agent.com.atproto.server.requestEmailConfirmation();
  const { raw } = await inbox.waitFor(
    ({ to, subject }) => to.includes(address) && subject !== 'news',
    20_000,
  );
  assert.match(raw.toString(), /:transactional:pool\.test/);
});

type Answer = { accepted: { recipient: string }[]; rejected: { recipient: string; code: string }[] };

async function sendOverHttp(mail: object): Promise<Answer> {
  const answer = await fetch(`${node.url}/v1/send`, {
    method: 'POST',
    headers: {
      ...{ 'X-Atmos-DID': tide.did, Authorization: `Bearer ${tideKey}` },
      'Content-Type': 'application/json',
    },
    body: JSON.stringify(mail),
  });
  return (await answer.json()) as Answer;
}
