/** A labeler of other make: its DID document and its stream, served by @atproto/xrpc-server on one port. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Secp256k1Keypair } from '@atproto/crypto';
import { createServer, InvalidRequestError } from '@atproto/xrpc-server';
import express from 'express';
import { type SignedLabel, signLabel, type UnsignedLabel } from '../../appview/labels/codec.ts';
import { com } from '../../lexicons/index.ts';
import { cids, iso, june, uriOf } from '../unit/labels-fixtures.ts';

export class ForeignLabeler {
  readonly cursors: (number | undefined)[] = [];
  documentsServed = 0;
  /** Where the document says that the stream is; default: here. */
  endpoint: string | undefined;
  #key: Secp256k1Keypair;
  readonly #did: string | undefined;
  #http: Server | undefined;
  #port = 0;
  readonly #sockets = new Set<Socket>();
  readonly #log: { seq: number; labels: unknown[] }[] = [];
  #wake = Promise.withResolvers<void>();

  private constructor(key: Secp256k1Keypair, did: string | undefined) {
    this.#key = key;
    this.#did = did;
  }

  /** @param did where it is not this server's own: then its document is elsewhere */
  static async start(did?: string): Promise<ForeignLabeler> {
    const labeler = new ForeignLabeler(await Secp256k1Keypair.create(), did);
    await labeler.open();
    return labeler;
  }

  get url(): string {
    return `http://localhost:${this.#port}`;
  }

  get did(): string {
    return this.#did ?? `did:web:localhost%3A${this.#port}`;
  }

  async open(): Promise<void> {
    const xrpc = createServer([], { validateResponse: false });
    const labeler = this;
    xrpc.add(com.atproto.label.subscribeLabels.main, async function* ({ params, signal }) {
      yield* labeler.#stream(params.cursor, signal);
    });
    const app = express();
    app.get('/.well-known/did.json', (_request, response) => {
      this.documentsServed += 1;
      response.json(this.#document());
    });
    app.use(xrpc.router);
    this.#http = app.listen(this.#port, 'localhost');
    this.#http.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    await once(this.#http, 'listening');
    this.#port = (this.#http.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const http = this.#http;
    if (!http) return;
    this.#http = undefined;
    const closed = once(http, 'close');
    http.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async rotateKey(): Promise<void> {
    this.#key = await Secp256k1Keypair.create();
  }

  get didKey(): string {
    return this.#key.did();
  }

  /** A vote on reef.test's attestation, where nothing else is said. */
  sign(fields: Partial<UnsignedLabel> = {}): Promise<SignedLabel> {
    const vote = {
      ver: 1,
      src: this.did,
      uri: uriOf('reef.test'),
      cid: cids[0],
      val: 'verified-mail-operator',
    };
    return signLabel({ ...vote, cts: iso(june), ...fields }, this.#key);
  }

  emit(seq: number, ...labels: unknown[]): void {
    this.#log.push({ seq, labels });
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  /** As if restored from an old backup. */
  loseHistory(): void {
    this.#log.length = 0;
  }

  async *#stream(cursor: number | undefined, signal: AbortSignal) {
    this.cursors.push(cursor);
    const head = this.#log.at(-1)?.seq ?? 0;
    if (cursor !== undefined && cursor > head) throw new InvalidRequestError('ahead', 'FutureCursor');
    let sent = cursor ?? head;
    while (!signal.aborted) {
      const next = this.#log.find(({ seq }) => seq > sent);
      if (next) {
        sent = next.seq;
        // What a stranger's server may send is not bound to the lexicon's types.
        yield { $type: 'com.atproto.label.subscribeLabels#labels' as const, ...next } as never;
      } else {
        await Promise.race([this.#wake.promise, once(signal, 'abort')]);
      }
    }
  }

  #document() {
    const multikey = this.#key.did().slice('did:key:'.length);
    return {
      id: this.did,
      verificationMethod: [
        {
          id: `${this.did}#atproto_label`,
          type: 'Multikey',
          controller: this.did,
          publicKeyMultibase: multikey,
        },
      ],
      service: [
        {
          id: `${this.did}#atproto_labeler`,
          type: 'AtprotoLabeler',
          serviceEndpoint: this.endpoint ?? this.url,
        },
      ],
    };
  }
}
