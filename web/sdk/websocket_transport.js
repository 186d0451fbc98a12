// A room over a WebSocket.

/** @import { Link, Listener, Request } from './transport.js' */

import { since } from './address.js';
import { Decoder } from './decoder.js';
import { closeError, networkError } from './errors.js';

/**
 * @param {Request} request
 * @param {Listener} listener
 * @returns {Link}
 */
export function openWebSocket(request, listener) {
  const { encoding, history, token } = request;
  /** @param {import('./errors.js').DanmakuError} error */
  const end = (error) => {
    close();
    listener.end(error);
  };
  const decoder = new Decoder(encoding, request.clock, { message: listener.message, fail: end });
  /** @type {WebSocket} */
  const socket = new request.WebSocket(
    request.address.webSocket({ since: since(request.position), history, encoding, token }),
  );
  socket.binaryType = 'arraybuffer';
  let opened = false;
  socket.onopen = () => (opened = true);
  socket.onmessage = ({ data }) => decoder.push(data);
  // The close event that follows says more, but some runtimes throw an error that nobody listens to.
  socket.onerror = () => {};
  socket.onclose = ({ code, reason }) => {
    const error = opened ? closeError(code, reason) : networkError('the WebSocket did not open');
    decoder.finish(() => end(error));
  };
  function close() {
    decoder.close();
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
  return {
    encoding,
    send: (message) => socket.readyState === OPEN && socket.send(JSON.stringify(message)),
    close,
  };
}

const OPEN = 1;
