/** The words and options of `atmos peer …`; the work is peer.ts's. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { Option } from 'commander';
import type { PeerStatus } from '../../appview/appview.ts';
import type { Peer, Stance } from '../cooperative/peer-book.ts';
import type { PeerPreview } from '../cooperative/preview.ts';
import type { ReadPeer } from '../peers.ts';
import { type Common, common, print, whoActs } from './options.ts';
import type { Done, ShownPeer } from './peer.ts';

type Saying = Common & { stance: Stance; reason?: string; evidence?: string[] };

const stances = ['guarantee', 'endorse', 'hesitate', 'censure'] as const;
/** How many of a stranger's lines a person is shown. */
const shownAtMost = 10;

export function addPeerCommands(program: Command): void {
  const peer = program
    .command('peer')
    .description('other cooperatives: whom we trust, and what we say of them');
  addAdding(peer);
  addLooking(peer);
  addChanging(peer);
}

function addAdding(peer: Command): void {
  withReason(common(peer.command('add')))
    .description('make a cooperative a peer: shows what will be trusted, and asks')
    .argument('<name>', 'its domain, such as harbor.example, or its DID')
    .addOption(new Option('--stance <stance>', 'what you say of it').choices(stances).default('guarantee'))
    .option('--yes', 'without asking')
    .action(async (name: string, options: Saying & { yes?: boolean }) => {
      const { addPeer, previewPeer } = await import('./peer.ts');
      if (!options.yes && (options.json || !process.stdin.isTTY))
        throw new Error('nobody is there to say yes. Add --yes when you have looked at the peer.');
      const { stance, reason, evidence = [] } = options;
      // A censure trusts nothing, so there is nothing to look at.
      const preview = stance === 'censure' ? undefined : (await previewPeer(options.config, name)).result;
      if (preview && !options.json) console.log(previewText(preview, stance));
      if (!options.yes && !(await isAgreed(`Add ${preview?.did ?? name} with the stance ${stance}?`)))
        throw new Error('nothing was changed.');
      const labelKey = preview && { labelKey: preview.labelKey };
      const wanted = { name: preview?.did ?? name, stance, reason, evidence, by: whoActs(), ...labelKey };
      const done = await addPeer(options.config, wanted);
      report(options, done, `${nameOf(done.result)} is a peer: ${stance}.`);
    });
}

function addLooking(peer: Command): void {
  common(peer.command('list', { isDefault: true }))
    .description('all peers')
    .action(async (options: Common) => {
      const { listPeers } = await import('./peer.ts');
      const { result: peers, running } = await listPeers(options.config);
      if (options.json) return print(peers);
      if (peers.length === 0) return console.log('None yet. Add one: atmos peer add harbor.example');
      for (const { did, stance, declared, from, status } of peers) {
        const state = status?.state ?? (running ? 'not read' : 'no node runs');
        console.log(
          [did, declared?.name ?? '-', stance, state, from === 'configuration' ? 'configuration' : ''].join(
            '\t',
          ),
        );
      }
    });

  common(peer.command('show'))
    .description('one peer: our stance, what it declared, and what we read of it')
    .argument('<name>', 'its domain or its DID')
    .action(async (name: string, options: Common) => {
      const { showPeer } = await import('./peer.ts');
      const { result, running } = await showPeer(options.config, name);
      options.json ? print(result) : console.log(peerText(result, running));
    });
}

function addChanging(peer: Command): void {
  withReason(common(peer.command('stance')))
    .description('say something else of a peer; its votes count with a guarantee alone')
    .argument('<name>', 'its domain or its DID')
    .argument('<stance>', stances.join(', '))
    .action(async (name: string, stance: string, options: Omit<Saying, 'stance'>) => {
      const { setPeerStance } = await import('./peer.ts');
      const wanted = stances.find((one) => one === stance);
      if (!wanted) throw new Error(`${stance} is no stance. Known: ${stances.join(', ')}.`);
      const { reason, evidence } = options;
      const done = await setPeerStance(options.config, {
        name,
        stance: wanted,
        reason,
        evidence,
        by: whoActs(),
      });
      report(options, done, `${nameOf(done.result)}: ${wanted}.`);
    });

  common(peer.command('remove'))
    .description('no peer any more: its votes count no more, and what is stored of it goes')
    .argument('<name>', 'its domain or its DID')
    .option('--reason <text>', 'why, for the record')
    .action(async (name: string, options: Common & { reason?: string }) => {
      const { removePeer } = await import('./peer.ts');
      const { reason } = options;
      const done = await removePeer(options.config, { name, by: whoActs(), ...(reason && { reason }) });
      report(options, done, `${nameOf(done.result)} is no peer any more.`);
    });

  addAct(peer, 'trust-key', 'let the new label key of a peer count at once', 'Its new label key counts.');
  addAct(peer, 'release', 'end a quarantine: its stream is read again', 'Its stream is read again.');
}

function addAct(peer: Command, act: 'trust-key' | 'release', description: string, done: string): void {
  common(peer.command(act))
    .description(description)
    .argument('<name>', 'its domain or its DID')
    .action(async (name: string, options: Common) => {
      const { actOnPeer } = await import('./peer.ts');
      report(options, await actOnPeer(options.config, act, { name, by: whoActs() }), done);
    });
}

function withReason(command: Command): Command {
  return command
    .option('--reason <text>', 'why; the public reads it in our declaration')
    .option('--evidence <url...>', 'a link to what it rests on; may be given again');
}

function report(options: Common, { result, running }: Done<Peer>, text: string): void {
  if (options.json) print(result);
  else console.log(running ? text : `${text} No node runs: it counts from the next start.`);
}

async function isAgreed(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

function nameOf({ did, declared }: Peer): string {
  return declared ? `${declared.name} (${did})` : did;
}

/** What a person reads before saying yes. */
export function previewText(peer: PeerPreview, stance: Stance): string {
  const { source, offers, guarantees, sendingAddresses, peers } = peer;
  const says = peers.map(({ did, stance: word, reason }) => `${word} ${did}${reason ? ` (${reason})` : ''}`);
  return [
    row('Cooperative', peer.name),
    row('DID', peer.did),
    ...optional('Says', peer.description),
    ...optional('Policy', peer.policy),
    ...optional('Contact', peer.contact),
    row('Pool domain', peer.poolDomain),
    row('Labeler', peer.labeler),
    row('Label key', peer.labelKey),
    row('Declared', source === 'repo' ? 'as records of its repo' : 'by its node, signed with the label key'),
    ...rows('Sends from', sendingAddresses),
    ...rows('Its peers', says),
    row('Labels now', offerText(offers)),
    row('You', stanceText(stance, peer.name, guarantees.length)),
  ].join('\n');
}

function offerText(offers: PeerPreview['offers']): string {
  if (!offers) return 'its labeler does not say';
  const many = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;
  const text = `${many(offers.votes, 'vote')} on ${many(offers.domains, 'domain')}`;
  return offers.isAll ? text : `${text}, and more`;
}

function stanceText(stance: Stance, name: string, guarantees: number): string {
  if (stance === 'censure') return `censure ${name}: its labels are not read.`;
  if (stance !== 'guarantee') return `${stance} ${name}: its labels are read, and its votes do not count.`;
  const further =
    guarantees > 0 ? ` Whom it guarantees itself (${guarantees}) does not count here by that.` : '';
  return `guarantee ${name}: you answer for it, and its votes count in your list.${further}`;
}

function peerText(peer: ShownPeer, running: boolean): string {
  const { did, stance, reason, evidence, declared, from, added, changed, status } = peer;
  return [
    row('DID', did),
    row('Stance', stance),
    ...optional('Reason', reason),
    ...rows('Evidence', evidence),
    ...(declared
      ? [
          row('Name', declared.name),
          row('Pool domain', declared.poolDomain),
          row('Labeler', declared.labeler),
          row('Label key', `${declared.labelKey} when it was added`),
        ]
      : []),
    ...(from === 'configuration' ? [row('From', 'the configuration')] : []),
    ...(added ? [row('Added', `${date(added.at)} by ${added.by}`)] : []),
    ...(changed && changed.at !== added?.at ? [row('Changed', `${date(changed.at)} by ${changed.by}`)] : []),
    ...(status ? statusRows(status) : [row('Stream', running ? 'not read' : 'no node runs')]),
  ].join('\n');
}

function statusRows(status: ReadPeer): string[] {
  const { state, reason, detail, lastError, lastLabelAt, held, lagMs, refusedToday } = status;
  const why = [reason, detail].filter(Boolean).join(': ');
  return [
    row('Stream', why ? `${state}: ${why}` : state),
    ...(state === 'quarantined' ? [row('', 'to read it again: atmos peer release')] : []),
    ...optional('Last error', lastError),
    row('Labels', `${held} held, ${refusedToday} refused today`),
    row('Last label', lastLabelAt === undefined ? 'none since the start' : date(lastLabelAt)),
    row('Behind', lagMs === 0 ? 'no' : `for ${Math.ceil(lagMs / 1000)} s`),
    ...newKeyRows(status),
    ...channelRows(status),
  ];
}

function channelRows({ privateChannel }: ReadPeer): string[] {
  if (!privateChannel) return [];
  const { quarantine, cursor } = privateChannel;
  if (!quarantine) return [row('Private', cursor === undefined ? 'nothing read yet' : 'read')];
  return [
    row('Private', `quarantined: ${quarantine.reason}`),
    row('', 'to read it again: atmos peer release'),
  ];
}

function newKeyRows({ newKey, newKeyCountsFrom }: PeerStatus): string[] {
  if (newKey === undefined) return [];
  const from = newKeyCountsFrom === undefined ? '' : ` until ${date(newKeyCountsFrom)}`;
  return [
    row('New key', `${newKey} waits${from}`),
    row('', 'when its operator has confirmed it: atmos peer trust-key'),
  ];
}

function row(name: string, text: string): string {
  return `${name.padEnd(12)} ${text}`;
}

function optional(name: string, text: string | undefined): string[] {
  return text === undefined ? [] : [row(name, text)];
}

function rows(name: string, texts: readonly string[]): string[] {
  const more = texts.length > shownAtMost ? [row('', `and ${texts.length - shownAtMost} more`)] : [];
  return [...texts.slice(0, shownAtMost).map((text, i) => row(i === 0 ? name : '', text)), ...more];
}

function date(at: number): string {
  return new Date(at).toISOString().slice(0, 16).replace('T', ' ');
}
