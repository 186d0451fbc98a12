// Turns a WebSocket's messages into objects, in order, whatever packs them.

/** @import { Clock, Encoding } from './index.js' */

import { DanmakuError } from './errors.js';

/** The encodings that this runtime can decode, the smallest first. */
export function encodings() {
  /** @type {Encoding[]} */
  const known = ['identity'];
  for (const [encoding, format] of /** @type {const} */ ([['gzip', 'gzip'], ['deflate', 'deflate-raw']])) {
    try {
      new DecompressionStream(format);
      known.unshift(encoding);
    } catch {
      // An older runtime knows fewer formats, or has no DecompressionStream at all.
    }
  }
  return known;
}

/**
 * @typedef {object} Sink
 * @property {(message: any, bytes: number) => void} message
 * @property {(error: DanmakuError) => void} fail called once, after which there are no more messages
 */

export class Decoder {
  /** @type {Promise<void>} */
  #queue = Promise.resolve();
  #waiting = 0;
  #closed = false;
  /** @type {Gunzip | Inflater | null} */
  #unpacker;
  #clock;
  #sink;

  /**
   * @param {Encoding} encoding
   * @param {Clock} clock
   * @param {Sink} sink
   */
  constructor(encoding, clock, sink) {
    this.#unpacker = encoding === 'deflate' ? new Inflater() : encoding === 'gzip' ? new Gunzip() : null;
    this.#clock = clock;
    this.#sink = sink;
  }

  /** @param {string | ArrayBuffer} data */
  push(data) {
    // Nothing is decoded while it is received: a text message must not overtake a batch that is being inflated.
    if (++this.#waiting > WAITING_MAX) this.#fail(new Error('messages arrive faster than they are decoded'));
    this.#then(async () => {
      this.#waiting -= 1;
      const isText = typeof data === 'string';
      const text = isText ? data : await this.#unpack(new Uint8Array(data));
      if (this.#closed) return;
      this.#sink.message(JSON.parse(text), isText ? utf8.encode(data).length : data.byteLength);
    });
  }

  /**
   * Calls `done` after all messages so far.
   *
   * @param {() => void} done
   */
  finish(done) {
    this.#then(done);
  }

  close() {
    this.#closed = true;
    this.#unpacker?.close();
  }

  /** @param {() => void | Promise<void>} step */
  #then(step) {
    this.#queue = this.#queue.then(() => (this.#closed ? undefined : step())).catch((error) => this.#fail(error));
  }

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  #unpack(bytes) {
    const unpacker = this.#unpacker;
    if (!unpacker) throw new Error('a binary message on an identity connection');
    return new Promise((/** @type {(text: string) => void} */ resolve, reject) => {
      // Damaged input can look like the beginning of something long.
      const timer = this.#clock.setTimeout(() => reject(new Error('a frame without an end')), UNPACK_MS_MAX);
      unpacker
        .unpack(bytes)
        .finally(() => this.#clock.clearTimeout(timer))
        .then(resolve, reject);
    });
  }

  /** @param {Error} cause */
  #fail(cause) {
    if (this.#closed) return;
    this.close();
    this.#sink.fail(new DanmakuError('corrupted_frame', `cannot decode a message: ${cause.message}`, { cause }));
  }
}

/** Each batch is one gzip member. */
class Gunzip {
  /** @param {Uint8Array<ArrayBuffer>} bytes */
  unpack(bytes) {
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
  }

  close() {}
}

/** All batches of a connection are one raw-deflate stream; each one's JSON ends in a line feed. */
class Inflater {
  #text = '';
  #utf8 = new TextDecoder('utf-8', { fatal: true });
  #writer;
  #reader;

  constructor() {
    const stream = new DecompressionStream('deflate-raw');
    this.#writer = stream.writable.getWriter();
    this.#reader = stream.readable.getReader();
    // The pending read reports errors.
    this.#writer.closed.catch(() => {});
    this.#reader.closed.catch(() => {});
  }

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  async unpack(bytes) {
    this.#writer.write(bytes).catch(() => {});
    while (!this.#text.endsWith('\n')) {
      const { value, done } = await this.#reader.read();
      if (done) throw new Error('the stream has ended');
      this.#text += this.#utf8.decode(value, { stream: true });
      if (this.#text.length > BATCH_CHARS_MAX) throw new Error('a batch without an end');
    }
    const line = this.#text;
    this.#text = '';
    return line;
  }

  close() {
    this.#writer.abort().catch(() => {});
    this.#reader.cancel().catch(() => {});
  }
}

const utf8 = new TextEncoder();
const WAITING_MAX = 1000;
const UNPACK_MS_MAX = 5000;
const BATCH_CHARS_MAX = 16 << 20;
