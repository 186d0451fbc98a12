// A room over a WebSocket.

/** @import { Open } from './transport.js' */

import { createDecoder } from './decoder.js';
import { closeError, networkError } from './errors.js';
import { since } from './http.js';

/** @type {Open} */
export function openWebSocket({ http, position, history, encoding, clock, WebSocket }, listener) {
  /** @type {globalThis.WebSocket | undefined} */
  let socket;
  let isClosed = false;
  let isOpen = false;
  const decoder = createDecoder(encoding, clock, listener.message, listener.end);
  // It fails if the token function does, or if the page's policy forbids the connection.
  http.webSocketUrl({ since: since(position), history, encoding }).then(connect).catch((error) => {
    listener.end(networkError('cannot open a WebSocket', error));
  });

  /** @param {string} url */
  function connect(url) {
    if (isClosed) return;
    socket = /** @type {globalThis.WebSocket} */ (new WebSocket(url));
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => (isOpen = true);
    socket.onmessage = ({ data }) => decoder.push(data);
    // The close event says more, but an error that nobody listens to can end a Node process.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => {
      decoder.finish(() => listener.end(isOpen ? closeError(code, reason) : networkError('the WebSocket did not open')));
    };
  }

  return {
    encoding,
    send: (message) => socket?.readyState === OPEN && socket.send(JSON.stringify(message)),
    close() {
      isClosed = true;
      decoder.close();
      socket?.close();
    },
  };
}

const OPEN = 1;
