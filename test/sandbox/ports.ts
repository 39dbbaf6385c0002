/**
 * Every port of the sandbox: one table, moved as a whole by an offset.
 *
 * Promise: `probe` finds each port that something else holds before anything starts, on 127.0.0.1 and,
 * where the sandbox is reached by the name `localhost`, on ::1 too: a stranger there would be asked in
 * its place. Between the probe and the listening a port can still be lost; the listener then fails.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** What one cooperative listens on. */
export type CooperativePorts = {
  web: number;
  submission: number;
  submissions: number;
  inbound: number;
  dns: number;
};

export type Ports = {
  offset: number;
  plc: number;
  pds: number;
  /** DNS over UDP and TCP for the names below .test. */
  resolver: number;
  inbox: { smtp: number; web: number };
  harbor: CooperativePorts;
  meadow: CooperativePorts;
};

/** So that no default port leaves the range of 16 bits. */
export const maxOffset = 65_535 - 8090;

/** @param offset 0 to `maxOffset` */
export function portsAt(offset: number): Ports {
  const at = (port: number) => port + offset;
  return {
    offset,
    plc: at(2582),
    pds: at(2583),
    resolver: at(5310),
    inbox: { smtp: at(2529), web: at(8025) },
    harbor: { web: at(8080), submission: at(2587), submissions: at(2465), inbound: at(2525), dns: at(5300) },
    meadow: { web: at(8090), submission: at(2588), submissions: at(2466), inbound: at(2526), dns: at(5301) },
  };
}

/** Of the third cooperative, which joins when someone wants it to. */
export function newcomerPorts(offset: number): CooperativePorts {
  const at = (port: number) => port + offset;
  return { web: at(8070), submission: at(2589), submissions: at(2467), inbound: at(2527), dns: at(5302) };
}

export type PortUse = {
  port: number;
  /** What the sandbox needs it for, as a person says it. */
  what: string;
  /** Reached as `localhost`, so that ::1 must be free as well. */
  byName: boolean;
  udp: boolean;
};

/** Every port with its purpose. */
export function usesOf(ports: Ports): PortUse[] {
  return [
    { port: ports.plc, what: 'the PLC directory', byName: true, udp: false },
    { port: ports.pds, what: 'the PDS', byName: true, udp: false },
    { port: ports.resolver, what: 'the DNS world (resolver)', byName: false, udp: true },
    { port: ports.inbox.smtp, what: "the inbox's SMTP server", byName: false, udp: false },
    { port: ports.inbox.web, what: "the inbox's web pages", byName: false, udp: false },
    ...usesOfCooperative('Harbor', ports.harbor),
    ...usesOfCooperative('Meadow', ports.meadow),
  ];
}

function usesOfCooperative(name: string, ports: CooperativePorts): PortUse[] {
  return [
    { port: ports.web, what: `${name}'s web pages and XRPC`, byName: true, udp: false },
    { port: ports.submission, what: `${name}'s submission (STARTTLS)`, byName: false, udp: false },
    { port: ports.submissions, what: `${name}'s submission (implicit TLS)`, byName: false, udp: false },
    { port: ports.inbound, what: `${name}'s inbound SMTP`, byName: false, udp: false },
    { port: ports.dns, what: `${name}'s list over DNS`, byName: false, udp: true },
  ];
}

export type TakenPort = PortUse & { address: string; transport: 'TCP' | 'UDP'; reason: string };

/** @returns the ports that cannot be had now, with the system's reason (EADDRINUSE, EACCES, …) */
export async function probe(ports: Ports): Promise<TakenPort[]> {
  return probeAll(usesOf(ports));
}

/** The same for the third cooperative. */
export async function probeNewcomer(offset: number): Promise<TakenPort[]> {
  return probeAll(usesOfCooperative('Dune', newcomerPorts(offset)));
}

async function probeAll(uses: PortUse[]): Promise<TakenPort[]> {
  const found = await Promise.all(uses.map(takenOf));
  return found.flat();
}

async function takenOf(use: PortUse): Promise<TakenPort[]> {
  const places = use.byName ? ['127.0.0.1', '::1'] : ['127.0.0.1'];
  const taken: TakenPort[] = [];
  for (const address of places) {
    const reason = await bindReason(use.port, address);
    if (reason) taken.push({ ...use, address, transport: 'TCP', reason });
  }
  const reason = use.udp ? await udpBindReason(use.port) : undefined;
  if (reason) taken.push({ ...use, address: '127.0.0.1', transport: 'UDP', reason });
  return taken;
}

async function bindReason(port: number, host: string): Promise<string | undefined> {
  const server = createServer();
  try {
    server.listen({ port, host, exclusive: true });
    await once(server, 'listening');
    return undefined;
  } catch (error) {
    return host === '::1' && isWithoutIpv6(error) ? undefined : codeOf(error);
  } finally {
    server.close();
  }
}

async function udpBindReason(port: number): Promise<string | undefined> {
  const socket = createSocket('udp4');
  try {
    socket.bind({ port, address: '127.0.0.1', exclusive: true });
    await once(socket, 'listening');
    return undefined;
  } catch (error) {
    return codeOf(error);
  } finally {
    socket.close();
  }
}

function isWithoutIpv6(error: unknown): boolean {
  return ['EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

/** What to tell a person whose ports are taken: each port, what it is for, and the way out. */
export function explainTaken(taken: TakenPort[], offset: number): string {
  const lines = taken.map(
    ({ port, address, transport, what, reason }) =>
      `${transport} port ${port} on ${address} is ${reason === 'EADDRINUSE' ? 'taken' : `not to be had (${reason})`}; the sandbox needs it for ${what}.`,
  );
  const first = taken[0]!;
  const finder = first.transport === 'TCP' ? 'ss -ltnp' : 'ss -lunp';
  return [
    ...lines,
    `Stop what holds it (to see what that is: ${finder} 'sport = :${first.port}'),`,
    `or start a world on other ports: npm start -- --port-offset ${(offset + 100) % maxOffset}`,
  ].join('\n');
}

/**
 * An offset whose ports are all free now and lie below the ephemeral range (32768 on Linux), so that no
 * outgoing connection takes one in between. For tests.
 *
 * @throws when 50 random offsets were all taken
 */
export async function freeOffset(random: () => number = Math.random): Promise<number> {
  for (let i = 0; i < 50; i += 1) {
    const offset = 10_000 + Math.floor(random() * 14_000);
    if ((await probe(portsAt(offset))).length === 0) return offset;
  }
  throw new Error('no free set of ports after 50 tries');
}
