/** Serves the cooperative's declaration: `email.atmos.cooperative.getDeclaration`. */
import type { Server } from '@atproto/xrpc-server';
import { email } from '../../lexicons/index.ts';

/** @param declaration the signed bytes, made anew by the caller when they near their end */
export function registerDeclaration(server: Server, declaration: () => Promise<Uint8Array>): void {
  server.add(email.atmos.cooperative.getDeclaration.main, {
    handler: async () => ({
      encoding: 'application/vnd.ipld.dag-cbor' as const,
      body: await declaration(),
    }),
  });
}
