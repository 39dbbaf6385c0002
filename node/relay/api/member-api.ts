/** All methods of members on one HTTP port: each is a plugin of its own, this only names them. */
import type { FastifyInstance } from 'fastify';
import type { Rates } from '../../enforcement/rates.ts';
import type { StandingOf } from '../../enforcement/standing.ts';
import type { Door } from '../../http/authenticated.ts';
import type { Contacts } from '../../members/contacts.ts';
import type { Members } from '../../members/members.ts';
import type { Suppressions } from '../../members/suppressions.ts';
import type { Spool } from '../../spool/spool.ts';
import type { ByteBudget } from '../byte-budget.ts';
import type { Intake } from '../intake.ts';
import type { OwnMail } from '../own-mail.ts';
import { batchApi } from './batch.ts';
import { confirmPages } from './confirm.ts';
import { deliverabilityApi } from './deliverability.ts';
import { forwardToApi } from './forward-to.ts';
import { HeldBodies } from './held-body.ts';
import { memberStatusApi } from './member-status.ts';
import { messagesApi } from './messages.ts';
import { openapiDocument } from './openapi.ts';
import { type Operation, operations } from './operations.ts';
import { sendApi } from './send.ts';
import { suppressionsApi } from './suppressions.ts';

export type MemberApiOptions = {
  door: Door;
  intake: Intake;
  /** Shared with the SMTP listeners. */
  budget: ByteBudget;
  spool: Spool;
  members: Members;
  contacts: Contacts;
  suppressions: Suppressions;
  rates: Rates;
  standingOf: StandingOf;
  ownMail: OwnMail;
  /** Name of the cooperative. */
  cooperative: string;
  publicUrl: string;
  poolDomain: string;
  /** Does mail for this domain come to this node? */
  receivesFor: (domain: string) => Promise<boolean>;
  /** As in the caps policy. */
  warmingDays: number;
  /** Methods of other folders, for the OpenAPI document. */
  alsoDocumented?: readonly Operation[];
  now: () => number;
};

export async function registerMemberApi(app: FastifyInstance, o: MemberApiOptions): Promise<void> {
  const { spool: queue, rates, alsoDocumented = [] } = o;
  const bodies = new HeldBodies(o);
  await app.register(sendApi({ ...o, bodies, answers: queue }));
  await app.register(batchApi({ ...o, bodies, answers: queue }));
  await app.register(messagesApi({ ...o, queue }));
  await app.register(suppressionsApi(o));
  await app.register(memberStatusApi({ ...o, queue, rates: rates.of }));
  const providersOf = (did: string) => rates.providersOf(did, '14d');
  await app.register(deliverabilityApi({ ...o, rates: rates.of, providersOf }));
  await app.register(forwardToApi(o));
  await app.register(confirmPages(o));
  await app.register(openapiDocument({ ...o, operations: [...operations, ...alsoDocumented] }));
}
