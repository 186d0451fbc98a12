// A room over a WebSocket.

/** @import { Open } from './transport.js' */

import { createDecoder } from './decoder.js';
import { asDanmakuError, closeError } from './errors.js';

/** @type {Open} */
export function openWebSocket({ http, query, encoding, clock, WebSocket }, listener) {
  /** @type {globalThis.WebSocket | undefined} */
  let socket;
  let isClosed = false;
  const decoder = createDecoder(encoding, clock, listener.message, listener.end);
  // It fails if the token function does, or if the page's policy forbids the connection.
  const url = http.webSocketUrl({ ...query, encoding });
  url.then(connect).catch((error) => listener.end(asDanmakuError(error)));

  /** @param {string} url */
  function connect(url) {
    if (isClosed) return;
    socket = /** @type {globalThis.WebSocket} */ (new WebSocket(url));
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => decoder.push(data);
    // The close event says more, but an error that nobody listens to can end a Node process.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => decoder.finish(() => listener.end(closeError(code, reason)));
  }

  return {
    encoding,
    send: (message) => socket?.send(JSON.stringify(message)),
    close() {
      isClosed = true;
      decoder.close();
      socket?.close();
    },
  };
}
