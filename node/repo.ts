/**
 * The composition of our repo: what a cooperative with a did:plc writes there, and when.
 *
 * Belongs to node.ts. A did:web has no repo; its declarations are served (cooperative/xrpc.ts).
 */
import type { GuardedFetch } from '../appview/identity/fetch.ts';
import type { Composing } from './composing.ts';
import { declarationsToPublish } from './cooperative/declarer.ts';
import { labelerServiceRecord } from './cooperative/labeler-service.ts';
import type { PeerBook } from './cooperative/peer-book.ts';
import { RepoAccounts } from './cooperative/repo-account.ts';
import { RepoPublisher } from './cooperative/repo-publisher.ts';
import type { RepoRecord, Wanted } from './cooperative/repo-records.ts';
import type { Membership } from './state.ts';

export function startRepo(
  { config, stops, log, count, now }: Composing,
  { state, book, fetch }: { state: Membership; book: PeerBook; fetch: GuardedFetch },
): void {
  const accounts = new RepoAccounts({ ...state, now });
  const wanted = (): Wanted => ({
    records: [
      ...(declarationsToPublish({ config, book }, now()) as RepoRecord[]),
      ...(config.roles.includes('labeler') ? [labelerServiceRecord(now())] : []),
    ],
    whole: ['email.atmos.peer'],
  });
  const publisher = new RepoPublisher({
    account: () => accounts.get(config.did),
    version: () => book.version,
    ...{ wanted, fetch, log, count, now },
  });
  publisher.start();
  stops.work('repo', () => publisher.stop());
}
