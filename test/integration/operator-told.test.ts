/** A node as it runs: what its operator is mailed and may change, and a start that cannot go well. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { openRelayWorld, reef } from '../relay-world.ts';

const caps = {
  warmingDays: 0,
  tiers: { standard: { perHour: 2, perDay: 20 }, gold: { perHour: 100, perDay: 1000 } },
};
const world = await openRelayWorld({ config: { operator: { email: 'ops@dest.test' }, caps } });
after(() => world.close());
const { node, inbox, reefKey } = world;

const send = async () => {
  const answer = await fetch(`${node.url}/v1/send`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-atmos-did': reef.did,
      authorization: `Bearer ${reefKey}`,
    },
    body: JSON.stringify({ from: 'pds@reef.test', to: ['ana@dest.test'], subject: 'hello', text: 'hi' }),
  });
  return answer.status;
};

test('the guard throttles, and the operator has a letter about it', async () => {
  for (let n = 0; n < 10; n++) await send();
  const letter = await inbox.waitFor(({ to }) => to.includes('ops@dest.test'), 30_000);
  assert.match(letter.raw.toString(), new RegExp(`Subject: ${reef.did} is throttled`));
});

test('the mail of a domain and the tier of a member are changed by a command', async () => {
  assert.deepEqual(await node.cli('member', 'tier', reef.did, 'gold'), { did: reef.did, tier: 'gold' });
  assert.deepEqual(await node.cli('member', 'category', 'reef.test', 'transactional'), {
    ...{ domain: 'reef.test', category: 'transactional' },
  });
  await node.cli('member', 'reinstate', reef.did, '--reason', 'it was a test');
  assert.equal(await send(), 200, 'within the caps of the other tier');
  await inbox.waitFor(({ raw }) => /Feedback-ID: [^\r]*:transactional:/.test(raw.toString()), 20_000);
});

test('a tier that the configuration dropped is said at the start, with whose it is', async () => {
  await node.kill('SIGTERM');
  const text = readFileSync(node.configFile, 'utf8');
  writeFileSync(node.configFile, text.replace('"gold"', '"silver"'));
  await assert.rejects(node.launch(), new RegExp(`${reef.did} has the tier .{0,2}"gold`));
  writeFileSync(node.configFile, text);
  await node.launch();
});
