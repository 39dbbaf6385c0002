/**
 * Loaded before our node (`--import`): it signs without its Ed25519 key, as opendkim does.
 *
 * The product has no such switch: a message with fewer signatures than all is never taken.
 */
import { ReadyKeyRing, type ReadyKeys } from '../../../node/relay/signing-keys.ts';

const { ofMember } = ReadyKeyRing.prototype;
ReadyKeyRing.prototype.ofMember = function (domain: string): ReadyKeys {
  const ready = ofMember.call(this, domain);
  if (ready.kind === 'failed') return ready;
  return { ...ready, keys: ready.keys.filter(({ algorithm }) => algorithm === 'rsa') };
};
