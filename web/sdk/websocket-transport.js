// A room over a WebSocket.

/** @import { Open } from './transport.js' */

import { closeError, corruptedFrame } from './errors.js';
import { createTimer } from './timer.js';

/** @type {Open} */
export function openWebSocket({ http, query, clock, WebSocket, ...asked }, listener) {
  const encoding = asked.encoding === 'auto' ? bestEncoding() : asked.encoding;
  /** @type {globalThis.WebSocket | undefined} */
  let socket;
  let isClosed = false;
  const unpacker = encoding === 'deflate' ? createInflater() : gunzip;
  const timer = createTimer(clock);
  // A text message must not overtake a batch that is still being inflated, so all of them queue.
  /** @type {Promise<any>} */
  let queue = http.webSocketUrl({ ...query, encoding });

  /** @param {(url: string) => unknown} step */
  const then = (step) => {
    queue = queue.then((url) => isClosed || step(url)).catch(listener.end);
  };

  /** @param {string | ArrayBuffer} data */
  async function take(data) {
    timer.set(UNPACK_MS_MAX, () => listener.end(corruptedFrame('a frame without an end')));
    const text = typeof data === 'string' ? data : await unpacker.unpack(new Uint8Array(data));
    timer.clear();
    listener.message(JSON.parse(text), new Blob([data]).size);
  }

  then((url) => {
    socket = /** @type {globalThis.WebSocket} */ (new WebSocket(url));
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => then(() => take(data).catch((cause) => listener.end(corruptedFrame(cause))));
    // The close event says more, but an error that nobody listens to can end a Node process.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => then(() => listener.end(closeError(code, reason)));
  });

  return {
    encoding,
    send: (message) => socket?.send(JSON.stringify(message)),
    close() {
      isClosed = true;
      timer.clear();
      unpacker.close();
      socket?.close();
    },
  };
}

/** The smallest encoding that this runtime can decode. */
function bestEncoding() {
  try {
    new DecompressionStream('deflate-raw');
    return 'deflate';
  } catch {
    // The first browsers that had it didn't know raw deflate.
    return globalThis.DecompressionStream ? 'gzip' : 'identity';
  }
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
        if (done) throw new Error('a batch without an end');
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
