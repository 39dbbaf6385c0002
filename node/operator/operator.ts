/** The composition of what the operator of a relay uses: its part of the control socket, and the pages where a port is given. */
import type { Composing } from '../composing.ts';
import { named } from '../listening.ts';
import type { Mail } from '../mail.ts';
import type { Membership } from '../state.ts';
import type { ControlSocket } from './control.ts';
import { operatorLinks } from './links-api.ts';
import { membersApi } from './members-api.ts';
import { operatorPages } from './pages.ts';
import { queueApi } from './queue-api.ts';
import { QueueTools } from './queue-tools.ts';
import { OperatorSessions } from './sessions.ts';

export type OperatorOptions = Composing & {
  state: Membership;
  /** Not started yet. */
  control: ControlSocket;
};

/** @throws when the port is taken */
export async function startOperator(
  { config, state: { members }, control, stops, log, now }: OperatorOptions,
  mail: Mail,
): Promise<void> {
  const { did, name, listen, caps } = config;
  const { spool, deliverer, record, measures } = mail;
  const stoppedMembers = () => measures.stoppedMembers();
  const tools = new QueueTools({ queue: spool, traffic: deliverer, did, record, stoppedMembers, now });
  const sessions = new OperatorSessions(now);
  await control.app.register(queueApi(tools));
  await control.app.register(operatorLinks(sessions));
  const setStanding: Parameters<typeof membersApi>[0]['setStanding'] = (state, measure) =>
    measures.setStanding(state, measure);
  const tiers = Object.keys(caps.tiers);
  await control.app.register(membersApi({ ...mail, setStanding, members, tiers }));
  if (!listen.operator) return;
  const pages = operatorPages({ tools, sessions, name, log, now });
  await named('listen.operator', listen.operator, pages.listen(listen.operator));
  stops.listener('operator', () => pages.close());
}
