/** `atmos peer …` beside a node that does not run, and over the socket of one that relays no mail. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pino } from 'pino';
import { addPeer, listPeers, previewPeer, removePeer, setPeerStance, showPeer } from '../../node/cli/peer.ts';
import { previewText } from '../../node/cli/peer-commands.ts';
import { readConfig } from '../../node/config.ts';
import { Node } from '../../node/node.ts';
import { ControlError } from '../../node/operator/control.ts';
import { freePort } from '../free-port.ts';
import { OtherCooperative } from './peer-fixtures.ts';

const dir = mkdtempSync(join(tmpdir(), 'atmos-cli-peer-'));
const file = join(dir, 'atmos.jsonc');
let dune: OtherCooperative;
let web: number;

before(async () => {
  dune = await OtherCooperative.start();
  web = await freePort();
  const configuration = {
    ...{ name: 'Harbor', domain: 'harbor.test', publicUrl: `http://localhost:${web}`, firehose: [] },
    ...{ roles: ['appview', 'web'], listen: listenAt(web) },
    network: { loopbackOnly: true, plcUrl: 'http://localhost:1', resolvers: ['127.0.0.1:1'] },
    peers: [{ did: 'did:web:meadow.test', stance: 'endorse', reason: 'by hand' }],
  };
  writeFileSync(file, JSON.stringify(configuration));
});
after(() => {
  dune.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** With `loopbackOnly` each is to be on loopback, also what no role of ours uses. */
function listenAt(port: number): Record<string, string> {
  const unused = ['submission', 'submissions', 'inbound', 'dns'];
  return { web: `127.0.0.1:${port}`, ...Object.fromEntries(unused.map((key) => [key, '127.0.0.1:1'])) };
}

const saying = { stance: 'guarantee' as const, evidence: [], by: 'mira' };
/** Declared now: these nodes have the clock of the machine. */
const declareNow = async () => {
  const body = await dune.declaration({ issuedAt: Date.now() - 1_000 });
  dune.answers.set('/xrpc/email.atmos.cooperative.getDeclaration', { body });
};
const refused = (text: RegExp) => (error: unknown) =>
  error instanceof ControlError && error.code === 'PEER_REFUSED' && text.test(error.message);

test('where no node runs, node.db is changed, and the answer says so', async () => {
  await declareNow();
  const { result, running } = await previewPeer(file, dune.did);
  assert.deepEqual([result.name, running], ['Dune', false]);
  const added = await addPeer(file, { ...saying, name: dune.did, labelKey: result.labelKey });
  assert.deepEqual([added.result.did, added.running], [dune.did, false]);
  const { result: peers } = await listPeers(file);
  assert.deepEqual(
    peers.map(({ did, stance, from, status }) => [did, stance, from, status]),
    [
      ['did:web:meadow.test', 'endorse', 'configuration', undefined],
      [dune.did, 'guarantee', 'command', undefined],
    ],
  );
  await assert.rejects(addPeer(file, { ...saying, name: dune.did }), refused(/a peer already/));
});

test('a node without a relay has the socket too, knows what was done beside it, and acts at once', async (t) => {
  const node = new Node(readConfig(file), pino({ level: 'silent' }));
  await node.start();
  t.after(() => node.stop());
  const { result, running } = await showPeer(file, dune.did);
  assert.deepEqual([result.added?.by, running], ['mira', true]);
  assert.ok(['following', 'waiting'].includes(String(result.status?.state)));
  const home = await (await fetch(`http://localhost:${web}/`)).text();
  assert.ok(home.includes(dune.did) && home.includes('did:web:meadow.test'));
  await setPeerStance(file, { name: dune.did, stance: 'censure', by: 'noor', reason: 'spam' });
  const censured = await showPeer(file, dune.did);
  assert.deepEqual([censured.result.reason, censured.result.status], ['spam', undefined]);
  await removePeer(file, { name: dune.did, by: 'noor' });
  assert.ok(!(await (await fetch(`http://localhost:${web}/`)).text()).includes(dune.did));
  await assert.rejects(
    removePeer(file, { name: 'did:web:meadow.test', by: 'noor' }),
    refused(/stands in the configuration/),
  );
  await assert.rejects(showPeer(file, dune.did), refused(/no peer of ours/));
});

test('a preview is told in lines, long lists to a limit', () => {
  const far = Array.from({ length: 12 }, (_, i) => ({ did: `did:web:p${i}.test`, stance: 'guarantee' }));
  const text = previewText(
    {
      ...{
        did: dune.did,
        name: 'Dune',
        poolDomain: 'dune.test',
        labeler: dune.url,
        labelKey: 'did:key:zQ3s',
      },
      ...{
        source: 'node',
        sendingAddresses: ['192.0.2.1'],
        peers: far,
        guarantees: far.map(({ did }) => did),
      },
      offers: { votes: 1, domains: 1, isAll: true },
    },
    'guarantee',
  );
  for (const said of [
    'Dune',
    'dune.test',
    'did:key:zQ3s',
    '192.0.2.1',
    'guarantee did:web:p0.test',
    'and 2 more',
  ])
    assert.ok(text.includes(said), said);
  assert.match(text, /1 vote on 1 domain\n/);
  assert.match(text, /you answer for it, and its votes count.*guarantees itself \(12\) does not count here/);
  assert.ok(!text.includes('p10.test'));
});
