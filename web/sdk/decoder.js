// Turns a WebSocket's messages into objects, in order, whatever packs them.

/** @import { Encoding } from './index.js' */
/** @import { Clock } from './clock.js' */

import { DanmakuError } from './errors.js';

/** The smallest encoding that this runtime can decode. */
export function bestEncoding() {
  try {
    new DecompressionStream('deflate-raw');
    return 'deflate';
  } catch {
    // The first browsers that had it didn't know raw deflate.
    return globalThis.DecompressionStream ? 'gzip' : 'identity';
  }
}

/**
 * @param {Encoding} encoding
 * @param {Clock} clock
 * @param {(message: any, bytes: number) => void} take
 * @param {(error: DanmakuError) => void} fail called once, after which there are no more messages
 */
export function createDecoder(encoding, clock, take, fail) {
  const unpacker = encoding === 'deflate' ? createInflater() : gunzip;
  const timer = clock.timer();
  let queue = Promise.resolve();
  let isClosed = false;

  /** @param {() => void | Promise<void>} step */
  const then = (step) => {
    queue = queue.then(() => (isClosed ? undefined : step())).catch(broken);
  };
  /** @param {Error} cause */
  const broken = (cause) => {
    if (isClosed) return;
    close();
    fail(new DanmakuError('corrupted_frame', `cannot decode a message: ${cause}`, { cause }));
  };
  const close = () => {
    isClosed = true;
    timer.clear();
    unpacker.close();
  };
  return {
    /**
     * A text message must not overtake a batch that is still being inflated, so all of them queue.
     *
     * @param {string | ArrayBuffer} data
     */
    push(data) {
      then(async () => {
        const isText = typeof data === 'string';
        if (!isText) timer.set(UNPACK_MS_MAX, () => broken(new Error('a frame without an end')));
        const text = isText ? data : await unpacker.unpack(new Uint8Array(data));
        timer.clear();
        if (!isClosed) take(JSON.parse(text), isText ? new Blob([data]).size : data.byteLength);
      });
    },
    /** Calls back after all messages so far. */
    finish: then,
    close,
  };
}

/** Each batch is one gzip member. */
const gunzip = {
  /** @param {Uint8Array<ArrayBuffer>} bytes */
  unpack: (bytes) => new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text(),
  close() {},
};

/** All batches of a connection are one raw-deflate stream; each one's JSON ends in a line feed. */
function createInflater() {
  const stream = new DecompressionStream('deflate-raw');
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  // Damage shows up in `read()`; the same rejection elsewhere needs no second report.
  const ignore = () => {};
  for (const end of [writer, reader]) end.closed.catch(ignore);
  return {
    /** @param {Uint8Array<ArrayBuffer>} bytes */
    async unpack(bytes) {
      writer.write(bytes).catch(ignore);
      let text = '';
      while (!text.endsWith('\n')) {
        const { value, done } = await reader.read();
        if (done || text.length > BATCH_CHARS_MAX) throw new Error('a batch without an end');
        text += utf8.decode(value, { stream: true });
      }
      return text;
    },
    close() {
      writer.abort().catch(ignore);
      reader.cancel().catch(ignore);
    },
  };
}

/** Damaged input can look like the beginning of something long, and messages wait behind it. */
const UNPACK_MS_MAX = 5000;
const BATCH_CHARS_MAX = 16 << 20;
