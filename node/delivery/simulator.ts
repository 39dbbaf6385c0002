/**
 * Recipients that do what their name says and never leave the machine: `delivered@`, `bounced@`,
 * `deferred@`, `complained@` at the simulator's domain.
 *
 * They come through the queue like everybody, with timeline, events, retries and DSN; only the other side
 * is made up here. `deferred` is put off twice, then delivered. What they count for nobody counts, so that
 * no cap bounds them: their DSNs end here too, or a member could fill an inbox in the pool's name.
 */
import type { Claim } from '../spool/spool.ts';
import type { Verdict } from './attempt.ts';

export type Simulated = { verdict: Verdict; emit?: 'complaint_received' };

const host = 'simulator';
const triesPutOff = 2;

export function simulate({
  kind,
  address,
  attempts,
}: Pick<Claim, 'kind' | 'address' | 'attempts'>): Simulated {
  if (kind !== 'mail') return { verdict: delivered };
  switch (address.slice(0, address.lastIndexOf('@')).toLowerCase()) {
    case 'delivered':
      return { verdict: delivered };
    case 'complained':
      return { verdict: delivered, emit: 'complaint_received' };
    case 'deferred':
      return { verdict: attempts < triesPutOff ? putOff : delivered };
    default:
      return { verdict: refused };
  }
}

const delivered: Verdict = {
  ...{ host, outcome: 'delivered', counted: true, status: '2.0.0' },
  reply: '250 2.0.0 simulated: taken',
  summary: 'delivered',
};

const putOff: Verdict = {
  ...{ host, outcome: 'deferred', counted: true, status: '4.7.1' },
  reply: '451 4.7.1 simulated: try again later',
  summary: 'the destination put off the recipient',
};

const refused: Verdict = {
  ...{ host, outcome: 'failed', counted: true, status: '5.1.1', recipientInvalid: true },
  reply: '550 5.1.1 simulated: no such user',
  summary: 'the destination refused the recipient',
};
