/** An endpoint that repeats what it is asked; run with --test-udp-no-try-send every send waits for the kernel. */
import { UdpEndpoint } from '../../dnsbl/udp.ts';
import { repeater } from './dnsbl-udp-fixtures.ts';

const [maxUdpSends] = process.argv.slice(2).map(Number);
const counted: number[] = [];
const endpoint = new UdpEndpoint(
  { host: '127.0.0.1', port: 0 },
  {
    responder: repeater,
    counters: {
      add: (what, times = 1) => {
        counted[what] = (counted[what] ?? 0) + times;
      },
    },
    maxUdpSends: maxUdpSends!,
    reusePort: false,
  },
);
process.on('message', () => process.send!(counted));
process.send!(await endpoint.listen());
