/**
 * A signing thread: hashes and signs what signing-threads.ts lays into its memory.
 *
 * Promise: a job is answered with all its signatures, or with why there are none. Nothing is loaded here
 * beyond node's own modules, so a thread costs little memory.
 */
import { hash, type KeyObject, sign } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { BodyHash } from './signing-body.ts';
import {
  canonicalLine,
  fieldsOf,
  type SignedHeader,
  signedHeader,
  signedLine,
  unsignedLine,
} from './signing-fields.ts';

/** One signature is made with each for each prefix. */
export type SigningKey = {
  key: KeyObject;
  algorithm: 'rsa' | 'ed25519';
  domain: string;
  selector: string;
};

/** A stretch of the slot's memory. */
export type Stretch = { start: number; end: number };

export type Job =
  /** Part of a body too long for one slot; they come in order. */
  | { kind: 'piece'; stream: number; piece: Stretch; isFirst: boolean; isLast: boolean }
  | {
      kind: 'sign';
      header: Stretch;
      /** The text to be hashed, or its hash. */
      body: Stretch | string;
      prefixes: Stretch[];
      /** Numbers of keys that were sent before. */
      signers: readonly number[];
      at: number;
      expiresAt: number;
    };

export type Answer =
  | { kind: 'hashed'; bodyHash: string }
  | { kind: 'signed'; bodyHash: string; signatures: string[] }
  | { kind: 'failed'; reason: string };

/** To the thread, and back. */
export type Order = { keys?: [number, SigningKey][]; forgetKeys?: true; slot: number; jobs: Job[] };
export type Done = { slot: number; answers: Answer[] };

const { slots } = workerData as { slots: SharedArrayBuffer[] };
const memory = slots.map((slot) => Buffer.from(slot));
const keys = new Map<number, SigningKey>();
const bodies = new Map<number, BodyHash>();
/** Far more than come at once: what is older than so many was broken off, and its end never comes. */
const maxBodies = 1_000;

parentPort!.on('message', ({ keys: sent, forgetKeys, slot, jobs }: Order) => {
  if (forgetKeys) keys.clear();
  for (const [number, key] of sent ?? []) keys.set(number, key);
  const done: Done = { slot, answers: jobs.map((job) => answer(job, memory[slot]!)) };
  parentPort!.postMessage(done);
});

function answer(job: Job, bytes: Buffer): Answer {
  try {
    if (job.kind === 'sign') return signAll(job, bytes);
    return hashPiece(job, bytes);
  } catch (error) {
    return { kind: 'failed', reason: (error as Error).message };
  }
}

function hashPiece(o: Extract<Job, { kind: 'piece' }>, bytes: Buffer): Answer {
  const body = o.isFirst ? new BodyHash() : bodies.get(o.stream);
  // Another thread had begun it, and died.
  if (!body) return { kind: 'failed', reason: 'the beginning of the body is lost' };
  body.update(bytes.subarray(o.piece.start, o.piece.end));
  if (!o.isLast) {
    if (o.isFirst && bodies.size >= maxBodies) bodies.delete(bodies.keys().next().value!);
    bodies.set(o.stream, body);
    return { kind: 'hashed', bodyHash: '' };
  }
  bodies.delete(o.stream);
  return { kind: 'hashed', bodyHash: body.digest() };
}

function signAll(job: Extract<Job, { kind: 'sign' }>, bytes: Buffer): Answer {
  const bodyHash = typeof job.body === 'string' ? job.body : hashOf(job.body, bytes);
  const lower = fieldsOf(latin1(job.header, bytes));
  const signatures: string[] = [];
  for (const prefix of job.prefixes) {
    const header = signedHeader(fieldsOf(latin1(prefix, bytes)), lower);
    if (!header) return { kind: 'failed', reason: 'the message has not exactly one From' };
    signatures.push(job.signers.map((signer) => signatureOf(signer, job, header, bodyHash)).join(''));
  }
  return { kind: 'signed', bodyHash, signatures };
}

function signatureOf(
  number: number,
  { at, expiresAt }: { at: number; expiresAt: number },
  { names, text }: SignedHeader,
  bodyHash: string,
): string {
  const signer = keys.get(number);
  if (!signer) throw new Error(`the key ${number} is not here`);
  const { key, algorithm, domain, selector } = signer;
  const unsigned = unsignedLine({ algorithm, domain, selector, at, expiresAt, bodyHash }, names);
  const data = Buffer.from(text + canonicalLine(unsigned), 'latin1');
  // RFC 8463 §3: Ed25519 signs the hash, as if it were the message.
  const signature =
    algorithm === 'rsa' ? sign('sha256', data, key) : sign(null, hash('sha256', data, 'buffer'), key);
  return signedLine(unsigned, signature);
}

function hashOf({ start, end }: Stretch, bytes: Buffer): string {
  const body = new BodyHash();
  body.update(bytes.subarray(start, end));
  return body.digest();
}

function latin1({ start, end }: Stretch, bytes: Buffer): string {
  return bytes.toString('latin1', start, end);
}
