// A room over a WebSocket.

/** @import { Open } from './transport.js' */

import { closeError, corruptedFrame } from './errors.js';
import { createTimer } from './timer.js';
import { createInflater, gunzip } from './unpack.js';

/** @type {Open} */
export function openWebSocket({ http, query, encoding, clock, WebSocket }, listener) {
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
    const isText = typeof data === 'string';
    if (!isText) timer.set(UNPACK_MS_MAX, () => listener.end(corruptedFrame('a frame without an end')));
    const text = isText ? data : await unpacker.unpack(new Uint8Array(data));
    timer.clear();
    listener.message(JSON.parse(text), isText ? new Blob([data]).size : data.byteLength);
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

/** Damaged input can look like the beginning of something long, and messages wait behind it. */
const UNPACK_MS_MAX = 5000;
