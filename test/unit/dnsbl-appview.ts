/** The feed of an AppView, for those who follow it. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from '@atproto/xrpc-server';
import express from 'express';
import { type ListingFeed, registerListingSubscribe } from '../../appview/xrpc/listing-subscribe.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { vouched } from './dnsbl-fixtures.ts';

/** An AppView as far as its feed goes: the real method over rows in memory. */
export class AppView implements ListingFeed {
  rows: Listing[] = [];
  epoch = 1000;
  /** The cursors with which followers came. */
  readonly cursors: string[] = [];
  readonly #listeners = new Set<(listing: Listing) => void>();
  #http: Server | undefined;
  readonly #sockets = new Set<Socket>();
  port = 0;

  get last(): number {
    return this.rows.at(-1)?.seq ?? this.epoch;
  }

  since(seq: number, limit: number): Listing[] {
    return this.rows.filter((row) => row.seq > seq).slice(0, limit);
  }

  onChange(callback: (listing: Listing) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  list(name: string, rest: Partial<Listing> = {}): void {
    const row = vouched({ name }, { seq: this.last + 1, ...rest });
    this.rows = [...this.rows.filter((other) => other.name !== name), row];
    for (const listener of this.#listeners) listener(row);
  }

  async start(): Promise<string> {
    const xrpc = createServer();
    registerListingSubscribe(xrpc, this);
    this.#http = express().use(xrpc.router).listen(this.port, '127.0.0.1');
    this.#http.on('upgrade', ({ url = '' }) => this.cursors.push(url.replace(/.*cursor=/, '')));
    this.#http.on('connection', (socket) => this.#sockets.add(socket));
    await once(this.#http, 'listening');
    this.port = (this.#http.address() as AddressInfo).port;
    return `http://127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    if (!this.#http?.listening) return;
    const closed = once(this.#http, 'close');
    this.#http.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
