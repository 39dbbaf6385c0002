/** The native DNS sockets for tests that need them: built here, from the batch.c of this tree. */
import { loadAddon } from '../dnsbl/native/addon.ts';
import { buildAddon } from '../dnsbl/native/build.ts';

/**
 * For the `skip` option of a test: false when they are there, else the reason.
 *
 * @throws when they are not and ATMOS_REQUIRE_PEERS=1
 */
export function needsNativeDns(): string | false {
  if ('addon' in loadAddon()) return false;
  const why = buildAddon();
  if (why === undefined) return false;
  if (process.env.ATMOS_REQUIRE_PEERS === '1') throw new Error(`native DNS sockets required: ${why}`);
  return `native DNS sockets: ${why}`;
}
