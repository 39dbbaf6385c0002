/**
 * One message of `subscribeLabels`, out of labels that are encoded already.
 *
 * The log holds each label as the DAG-CBOR that a frame contains, so a frame is bytes joined: made once for
 * all who read it, and the same that appview/labels/codec.ts encodes from values.
 */
import { encode } from '@atproto/lex-cbor';
import { CorruptState } from '../../appview/database.ts';
import { decodeLabel, type SignedLabel } from '../../appview/labels/codec.ts';

const header = encode({ op: 1, t: '#labels' });
/** `{ seq, labels }` in the order of DAG-CBOR: shorter keys first. */
const seqKey = Buffer.from('a263736571', 'hex');
const labelsKey = Buffer.from('666c6162656c73', 'hex');
const major = { unsigned: 0, array: 4, map: 5 };

export class LabelsFrame {
  /** Of the last of its labels: the cursor of who has read it. */
  readonly seq: number;
  readonly #seqs: readonly number[];
  readonly #bodies: readonly Uint8Array[];
  #bytes: Uint8Array | undefined;
  #message: Uint8Array | undefined;
  #labels: readonly SignedLabel[] | undefined;

  /**
   * @param rows at least one, as encodeLabel() makes them, by seq
   * @param labels the same as values, where they are at hand
   * @throws CorruptState when a row is no map: the log holds what we never wrote
   */
  constructor(rows: readonly { seq: number; body: Uint8Array }[], labels?: readonly SignedLabel[]) {
    this.#seqs = rows.map(({ seq }) => seq);
    this.#bodies = rows.map(({ body }) => body);
    this.#labels = labels;
    this.seq = this.#seqs.at(-1)!;
    const broken = this.#bodies.findIndex((body) => body.length < 2 || body[0]! >> 5 !== major.map);
    if (broken >= 0) throw doesNotDecode(this.#seqs[broken]!);
  }

  /** Of its first label. */
  get first(): number {
    return this.#seqs[0]!;
  }

  get labels(): readonly SignedLabel[] {
    this.#labels ??= this.#bodies.map((body, index) => {
      return decodeLabel(body) ?? raise(doesNotDecode(this.#seqs[index]!));
    });
    return this.#labels;
  }

  get bytes(): Uint8Array {
    this.#bytes ??= Buffer.concat([
      ...[header, seqKey, head(major.unsigned, this.seq), labelsKey],
      ...[head(major.array, this.#bodies.length), ...this.#bodies],
    ]);
    return this.#bytes;
  }

  /** The same as a WebSocket message, as a server sends it to whoever reads. */
  get message(): Uint8Array {
    this.#message ??= Buffer.concat([messageHead(this.bytes.length), this.bytes]);
    return this.#message;
  }

  /** What of it is behind a cursor that ends within it. */
  after(seq: number): LabelsFrame {
    const from = this.#seqs.findIndex((one) => one > seq);
    const rows = this.#seqs.map((one, index) => ({ seq: one, body: this.#bodies[index]! }));
    return new LabelsFrame(rows.slice(from), this.#labels?.slice(from));
  }
}

export function doesNotDecode(seq: number): CorruptState {
  return new CorruptState(`node.db: label ${seq} does not decode. Restore it from a backup.`);
}

function raise(error: Error): never {
  throw error;
}

/** RFC 6455 §5.2: one final binary frame, not masked. */
function messageHead(length: number): Buffer {
  if (length < 126) return Buffer.of(0x82, length);
  const head = Buffer.alloc(length < 0x1_0000 ? 4 : 10);
  head[0] = 0x82;
  head[1] = length < 0x1_0000 ? 126 : 127;
  if (length < 0x1_0000) head.writeUInt16BE(length, 2);
  else head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

/** The shortest form, as DAG-CBOR wants it (RFC 8949 §3). */
function head(type: number, value: number): Buffer {
  const first = type << 5;
  if (value < 24) return Buffer.of(first | value);
  if (value < 0x100) return Buffer.of(first | 24, value);
  const wide = Buffer.alloc(9);
  wide.writeBigUInt64BE(BigInt(value), 1);
  const octets = value < 0x1_0000 ? 2 : value < 0x1_0000_0000 ? 4 : 8;
  const bytes = wide.subarray(8 - octets);
  bytes[0] = first | { 2: 25, 4: 26, 8: 27 }[octets]!;
  return bytes;
}
