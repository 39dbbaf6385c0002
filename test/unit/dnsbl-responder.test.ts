/** What a fault of ours tells, and what not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newMetricsMemory, ThreadMetrics } from '../../dnsbl/metrics.ts';
import { type Fault, Responder } from '../../dnsbl/responder.ts';
import { clientAt } from './dnsbl-access-fixtures.ts';
import { apex, emptyZone, queryPacket } from './dnsbl-fixtures.ts';

class Broken extends ThreadMetrics {
  override answered(): void {
    throw new Error('broken');
  }
}

function faultOf(packet: Buffer): Fault {
  const memory = newMetricsMemory(1);
  const faults: Fault[] = [];
  const responder = new Responder({
    setup: { zones: [emptyZone().share()], counters: memory, tsigKeys: [] },
    counters: new Broken(memory),
    newest: () => [],
    onFault: (fault) => faults.push(fault),
  });
  const client = clientAt('192.0.2.7');
  assert.equal(responder.answer(packet, 0, packet.length, 'udp', client, Buffer.alloc(4096), 0), 0);
  assert.equal(faults.length, 1);
  return faults[0]!;
}

test('the packet that a fault tells has stars where a key may be, and all else as it was', () => {
  const name = (label: string) => `reef.test.dom.${label}.${apex}`;
  const key = 'K3ysofharbor-2026';
  const edns = { udpPayloadSize: 1232 };
  const { packetHex } = faultOf(queryPacket(name(key), 'A', edns));
  assert.equal(packetHex, queryPacket(name('*'.repeat(key.length)), 'A', edns).toString('hex'));
});

test('a packet without a key is told as it was', () => {
  for (const name of [`averylonglabelthatisnokey.test.dom.${apex}`, 'example.org']) {
    const packet = queryPacket(name, 'TXT');
    assert.equal(faultOf(packet).packetHex, packet.toString('hex'));
  }
});
