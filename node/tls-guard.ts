/**
 * Keeps a TLS client that leaves in the middle of its handshake from ending the process.
 *
 * Node 24.21 crashes (SIGSEGV) in `TLSSocket.getProtocol()` once the TLS state is gone, and smtp-server
 * asks for it when a handshake breaks off, as all do that are open at a stop. Imported by whoever uses smtp-server. Without TLS state there is
 * no protocol: the answer is null, as it is before a handshake.
 */
import { TLSSocket } from 'node:tls';

const getProtocol = TLSSocket.prototype.getProtocol;

TLSSocket.prototype.getProtocol = function (this: TLSSocket & { ssl?: unknown }) {
  return this.ssl ? getProtocol.call(this) : null;
};
