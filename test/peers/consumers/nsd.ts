/** Debian's NSD with one zone from a file, as a second opinion on answers. */
import { createSocket } from 'node:dgram';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../free-port.ts';
import { newFolder, startProgram } from './program.ts';

export type Nsd = { port: number; log(): string; stop(): Promise<void> };

export async function startNsd(o: {
  apex: string;
  zoneFile: string;
  nsid: string;
  version: string;
}): Promise<Nsd> {
  const { dir, remove } = newFolder('nsd');
  const port = await freePort();
  writeFileSync(join(dir, 'zone'), o.zoneFile);
  const text = `
server:
  ip-address: 127.0.0.1@${port}
  ip-address: ::1@${port}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "${dir}"
  zonelistfile: "${dir}/zone.list"
  xfrdfile: "${dir}/xfrd.state"
  xfrdir: "${dir}"
  pidfile: "${dir}/pid"
  server-count: 1
  rrl-ratelimit: 0
  minimal-responses: yes
  nsid: "ascii_${o.nsid}"
  identity: "${o.nsid}"
  version: "${o.version}"
remote-control:
  control-enable: no
zone:
  name: "${o.apex}"
  zonefile: zone
`;
  writeFileSync(join(dir, 'nsd.conf'), text);
  const program = await startProgram({
    dir,
    command: ['/usr/sbin/nsd', '-d', '-c', join(dir, 'nsd.conf')],
    ready: () => answers(port),
  });
  return {
    ...{ port, log: program.log },
    stop: async () => {
      await program.stop();
      remove();
    },
  };
}

/** Asked for the SOA of the root: whatever it says, it is there. */
async function answers(port: number): Promise<boolean> {
  const socket = createSocket('udp4');
  socket.on('error', () => undefined);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('message', () => resolve(true));
  setTimeout(() => resolve(false), 200);
  socket.send(Buffer.from('0001000000010000000000000000060001', 'hex'), port, '127.0.0.1');
  try {
    return await promise;
  } finally {
    socket.close();
  }
}
