/**
 * A member that Harbor suspends, in the sandbox: real processes, a real PDS. Meadow hears it in private and holds its
 * enrolment; the public hears nothing until Harbor publishes it, and no more once it is over.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { openDatabase } from '../../appview/database.ts';
import { Signals } from '../../appview/listing/signals.ts';
import { ledgerMigrations } from '../../appview/migrations.ts';
import { enrolMember } from '../../node/cli/member.ts';
import { showMember } from '../../node/cli/reputation.ts';
import { readConfig } from '../../node/config.ts';
import { freeOffset } from '../sandbox/ports.ts';
import { type Sandbox, startSandbox } from '../sandbox/sandbox.ts';
import { until } from '../until.ts';

const run = promisify(execFile);
const atmos = join(import.meta.dirname, '../../node/atmos.js');
const folder = mkdtempSync(join(tmpdir(), 'atmos-suspended-'));
let sandbox: Sandbox;
let suspended: { did: string; domains: string[] };

before(async () => {
  sandbox = await startSandbox({ folder, portOffset: await freeOffset() });
  suspended = sandbox.world.members.find(({ home }) => home === 'harbor')!;
});
after(async () => {
  await sandbox?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const configFile = (name: 'harbor' | 'meadow') => sandbox.cooperatives[name].configFile;
const harbor = () => sandbox.world.cooperatives.find(({ name }) => name === 'harbor')!;
const member = (...args: string[]) =>
  run(process.execPath, [atmos, 'member', ...args, '--config', configFile('harbor')]);

/** Values of Harbor's public labels on the member and its records. */
async function publicly(): Promise<string[]> {
  const { labeler } = harbor();
  const patterns = [suspended.did, `at://${suspended.did}/*`].map(
    (uri) => `uriPatterns=${encodeURIComponent(uri)}`,
  );
  const answer = await fetch(`${labeler}/xrpc/com.atproto.label.queryLabels?${patterns.join('&')}`);
  const { labels } = (await answer.json()) as { labels: { val: string; uri: string }[] };
  return labels.map(({ val, uri }) => `${val}${uri === suspended.did ? '' : ' *'}`).sort();
}

/** What Meadow has stored of the member's signals. */
function privately() {
  const { stateDir } = readConfig(configFile('meadow'));
  const db = openDatabase(join(stateDir, 'ledger.db'), ledgerMigrations, { synchronous: 'FULL' });
  try {
    return new Signals({ db, now: Date.now }).of({ did: suspended.did });
  } finally {
    db.close();
  }
}

test('suspended at Harbor, held at Meadow', async () => {
  await member('suspend', suspended.did, '--reason', 'It wrote to people who never asked.', '--code', 'spam');
  await until('the signal at Meadow', () => privately().length > 0);
  const wanted = { did: suspended.did, domains: ['moved.test'], relay: true };
  assert.equal((await enrolMember(configFile('meadow'), wanted)).held, true);
  const { standing, signals } = await showMember(configFile('meadow'), suspended.did);
  assert.deepEqual([standing.state, standing.reason], ['held', 'Held for review.']);
  assert.ok(
    signals.some(
      ({ val, reason, evidence, by }) =>
        val === 'suspended' && reason === 'spam' && evidence === 'review' && by === 'did',
    ),
  );
  const shown = await run(process.execPath, [
    atmos,
    'peer',
    'show',
    harbor().did,
    '--json',
    '--config',
    configFile('meadow'),
  ]);
  const { status } = JSON.parse(shown.stdout) as { status: { privateChannel: { cursor: number } } };
  assert.equal(status.privateChannel.cursor, 1 + suspended.domains.length);
  await until('nothing of the member is public', async () => (await publicly()).length === 0);
});

test('published, everyone reads it; reinstated, nobody does', async () => {
  const [domain] = suspended.domains;
  await assert.rejects(
    member('publish-suspension', suspended.did, '--domain', domain!, '--reason', 'spam', '--for', '30d'),
    /nobody is there to say yes/,
  );
  await member(
    'publish-suspension',
    suspended.did,
    '--domain',
    domain!,
    '--reason',
    'spam',
    '--for',
    '30d',
    '--yes',
  );
  assert.deepEqual(await publicly(), ['suspended-spam', 'suspended-spam *']);
  await member('reinstate', suspended.did, '--reason', 'It was somebody else.');
  await until('the public labels end', async () =>
    (await publicly()).every((val) => !val.startsWith('suspended-')),
  );
  await until('Meadow hears that it is over', async () => {
    const { signals } = await showMember(configFile('meadow'), suspended.did);
    return signals.length === 0;
  });
});
