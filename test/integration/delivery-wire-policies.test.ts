/** The whole way of a policy: real DNS answers, a real web server, a real handshake, and what it comes to. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpsServer } from 'node:https';
import { type TestContext, test } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { createServer, Packet, type Resource } from 'dns2';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { routeOf } from '../../node/delivery/route.ts';
import { RememberedAnswers } from '../../node/delivery/route-answers.ts';
import { TlsPolicies } from '../../node/delivery/tls-policy.ts';
import { DnsResolver } from '../../node/resolver.ts';
import {
  type Certificate,
  certificate,
  never,
  open,
  outgoing,
  type Peer,
  peer,
} from './delivery-wire-world.ts';

const name = 'mx.dest.test';
const tlsaType = 52;
type Zone = Record<string, Partial<Resource>[] | number>;

/** A validating resolver, as far as anybody can tell: `name/type number` → records or an RCODE. */
async function dns(t: TestContext, zone: Zone, isSigned: boolean) {
  const asked: string[] = [];
  const server = createServer({
    udp: true,
    handle: (request, send) => {
      const { name, type } = request.questions[0]!;
      asked.push(`${name}/${type}`);
      const response = Packet.createResponseFromRequest(request);
      const entry = zone[`${name}/${type}`] ?? Packet.RCODE.NXDOMAIN;
      Object.assign(response.header, { ad: isSigned ? 1 : 0 });
      if (typeof entry === 'number') response.header.rcode = entry;
      else {
        const common = { name, type, class: Packet.CLASS.IN, ttl: 300 };
        for (const record of entry) response.answers.push({ ...common, ...record } as Resource);
      }
      send(response);
    },
  });
  const { udp } = await server.listen({ udp: { port: 0, address: '127.0.0.1' } });
  t.after(() => server.close());
  return { server: { host: '127.0.0.1', port: (udp as { port: number }).port }, asked };
}

const { A, MX, TXT } = Packet.TYPE;
const hosts: Zone = {
  [`dest.test/${MX}`]: [{ exchange: name, priority: 10 }],
  [`${name}/${A}`]: [{ address: '127.0.0.1' }],
};
const sts: Zone = { [`_mta-sts.dest.test/${TXT}`]: [{ data: ['v=STSv1; id=1;'] }] };

/** DNS → route → demands → session → message, as the deliverer goes it. */
async function sent(t: TestContext, to: Peer, { zone, isSigned = false, webPort = 1, ca }: Way) {
  const { server, asked } = await dns(t, zone, isSigned);
  const resolver = new RememberedAnswers({ resolver: new DnsResolver({ servers: [server] }), now: Date.now });
  const rules = { allowLoopback: true, loopbackOnly: true, lookup: () => Promise.resolve(['127.0.0.1']) };
  const get = guardedFetch(rules);
  const policies = new TlsPolicies({
    resolver,
    // The address stays as it is but for the port, which a test cannot have.
    fetch: (url, init) => get(url.replace('dest.test/', `dest.test:${webPort}/`), init),
    default: 'required',
    exceptions: {},
    now: Date.now,
    count: () => undefined,
    port: to.port,
  });
  const route = await routeOf('ann@dest.test', { resolver, allowed: () => true });
  assert.ok(route.kind === 'hosts', JSON.stringify(route));
  const demands = await policies.demandsFor('dest.test', route, { requireTls: false });
  if (demands.kind === 'none') return { demands, asked };
  const [{ host, demand } = assert.fail()] = demands.hosts;
  const result = await open(to, { name: host.name, tls: demand, ...(ca && { ca }) });
  if (result.kind !== 'open') return { demand, result, asked };
  t.after(() => result.session.close());
  return { demand, result: await result.session.deliver(outgoing(), never), asked };
}

type Way = { zone: Zone; isSigned?: boolean; webPort?: number; ca?: string[] };

const tlsa = (port: number, ...data: Buffer[]): Zone => ({
  [`_${port}._tcp.${name}/${tlsaType}`]: data.map((one) => ({ data: one }) as Partial<Resource>),
});
const digest311 = ({ cert }: Certificate): Buffer => {
  const key = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  return Buffer.concat([Buffer.from([3, 1, 1]), createHash('sha256').update(key).digest()]);
};

test('DANE: signed DNS opens exactly the certificate that it names, self-signed as it is', async (t) => {
  const mine = await certificate({ names: [name] });
  const there = await peer(t, { tls: mine });
  const { result, demand } = await sent(t, there, {
    zone: { ...hosts, ...tlsa(there.port, digest311(mine)) },
    isSigned: true,
  });
  assert.equal(demand?.kind, 'dane');
  assert.ok(result?.kind === 'delivered', JSON.stringify(result));
  assert.deepEqual([result.tls?.policy, result.tls?.verified], ['dane', 'dane']);
});

test('DANE: another certificate is put off, and hears nothing of the message', async (t) => {
  const there = await peer(t, { tls: await certificate({ names: [name] }) });
  const other = await certificate({ names: [name] });
  const { result } = await sent(t, there, {
    zone: { ...hosts, ...tlsa(there.port, digest311(other)) },
    isSigned: true,
  });
  assert.ok(result?.kind === 'broken');
  assert.equal(result.status, '4.7.5');
  assert.deepEqual(there.commands, ['EHLO harbor.test', 'STARTTLS']);
});

test('DANE: in DNS that nobody signed TLSA records are not even asked for', async (t) => {
  const there = await peer(t, { tls: await certificate({ names: [name] }) });
  const zone = { ...hosts, ...tlsa(there.port, digest311(await certificate())) };
  const { result, demand, asked } = await sent(t, there, { zone });
  assert.equal(demand?.kind, 'encrypted');
  assert.equal(result?.kind, 'delivered');
  assert.ok(!asked.some((question) => question.endsWith(`/${tlsaType}`)));
});

test('DANE: where the records cannot be had, nothing is sent', async (t) => {
  const there = await peer(t, { tls: await certificate({ names: [name] }) });
  const zone = { ...hosts, [`_${there.port}._tcp.${name}/${tlsaType}`]: Packet.RCODE.SERVFAIL };
  const { demands } = await sent(t, there, { zone, isSigned: true });
  assert.equal(demands?.kind === 'none' && demands.status, '4.4.3');
  assert.equal(there.connections(), 0);
});

const policy = `version: STSv1\nmode: enforce\nmx: ${name}\nmax_age: 86400\n`;

async function policyHost(t: TestContext, tls: Certificate): Promise<number> {
  const server = createHttpsServer({ key: tls.key, cert: tls.cert }, (request, reply) => {
    const isIt =
      request.url === '/.well-known/mta-sts.txt' && request.headers.host?.startsWith('mta-sts.dest.test');
    reply.writeHead(isIt ? 200 : 404, { 'content-type': 'text/plain' }).end(isIt ? policy : '');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

test('MTA-STS: a policy from a host with a good certificate is enforced on the exchanger’s', async (t) => {
  const root = await certificate({ commonName: 'Root', ca: true });
  const usual = getCACertificates('default');
  setDefaultCACertificates([...usual, root.cert]);
  t.after(() => setDefaultCACertificates(usual));
  const signed = (names: string[], more = {}) => certificate({ names, issuer: root, ...more });
  const webPort = await policyHost(t, await signed(['mta-sts.dest.test']));
  const way = { zone: { ...hosts, ...sts }, webPort, ca: [root.cert] };

  const good = await sent(t, await peer(t, { tls: await signed([name]) }), way);
  assert.ok(good.result?.kind === 'delivered', JSON.stringify(good));
  assert.equal(good.result.tls?.verified, 'mta-sts');
  for (const bad of [await certificate({ names: [name] }), await signed(['other.test'])]) {
    const there = await peer(t, { tls: bad });
    const { result } = await sent(t, there, way);
    assert.equal(result?.kind === 'broken' && result.status, '4.7.5');
    assert.ok(!there.commands.some((line) => line.startsWith('MAIL')));
  }
  const plain = await sent(t, await peer(t), way);
  assert.equal(plain.result?.kind === 'broken' && plain.result.status, '4.7.4');

  // Nobody could prove that these policies are the domain's, so they are not.
  const strangers = [
    await certificate({ names: ['mta-sts.dest.test'] }),
    await signed(['dest.test']),
    await signed(['mta-sts.dest.test'], { from: -30, to: -1 }),
  ];
  for (const stranger of strangers) {
    const there = await peer(t, { tls: await certificate({ names: [name] }) });
    const { demand } = await sent(t, there, { ...way, webPort: await policyHost(t, stranger) });
    assert.equal(demand?.kind, 'encrypted');
  }
});
